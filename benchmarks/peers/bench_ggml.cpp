// Times ggml's CPU backend.  bench_ggml DIR_WITH_LIBGGML cases.tsv THREADS [op [case]]
// The few functions used are declared here (opaque pointers), so no header of theirs is needed.
// peers: ggml = norm, then mul by weight and add bias (ggml_rms_norm: mul only), as a ggml model builds it;
//        ggml-bare = the norm operator by itself, without weight and bias.
// Forward; RMSNorm also ggml_rms_norm_back (bare).  A graph is built once per buffer set and computed per call.
#include "bench_common.h"
#include <dlfcn.h>
typedef void* P; struct InitParams { size_t mem_size; void* mem; bool no_alloc; };
static void* hb, *hc; template <class F> static F sym(const char* n) { void* p = dlsym(hc, n); if (!p) p = dlsym(hb, n); if (!p) { fprintf(stderr, "# ggml: no %s\n", n); exit(1); } return (F)p; }
int main(int argc, char** argv) {
    std::string d = argv[1]; const char* var = getenv("GGML_VARIANT"); hb = dlopen((d + "/libggml-base.so").c_str(), RTLD_NOW | RTLD_GLOBAL);
    for (std::string s : {std::string(var ? var : "-zen4"), std::string("")}) if (!hc) hc = dlopen((d + "/libggml-cpu" + s + ".so").c_str(), RTLD_NOW | RTLD_GLOBAL);
    if (!hb || !hc) { fprintf(stderr, "# ggml: %s\n", dlerror()); return 1; } int T = atoi(argv[3]);
    auto ggml_init = sym<P (*)(InitParams)>("ggml_init"); auto ggml_free = sym<void (*)(P)>("ggml_free");
    auto t4 = sym<P (*)(P, int, int64_t, int64_t, int64_t, int64_t)>("ggml_new_tensor_4d"); auto data = sym<float* (*)(P)>("ggml_get_data_f32");
    auto norm = sym<P (*)(P, P, float)>("ggml_norm"), rms = sym<P (*)(P, P, float)>("ggml_rms_norm"); auto gn = sym<P (*)(P, P, int, float)>("ggml_group_norm");
    auto rback = sym<P (*)(P, P, P, float)>("ggml_rms_norm_back"); auto mul = sym<P (*)(P, P, P)>("ggml_mul"), add = sym<P (*)(P, P, P)>("ggml_add");
    auto graph = sym<P (*)(P)>("ggml_new_graph"); auto expand = sym<void (*)(P, P)>("ggml_build_forward_expand");
    P be = sym<P (*)()>("ggml_backend_cpu_init")(); sym<void (*)(P, int)>("ggml_backend_cpu_set_n_threads")(be, T); 
    if (T > 1) { // keep the workers alive between calls: without a pool ggml starts its threads anew in every call
        char tp[4096] = {}; sym<void (*)(void*, int)>("ggml_threadpool_params_init")(tp, T); sym<void (*)(P, P)>("ggml_backend_cpu_set_threadpool")(be, sym<P (*)(void*)>("ggml_threadpool_new")(tp)); }
    auto compute = sym<int (*)(P, P)>("ggml_backend_graph_compute");
    fprintf(stderr, "# ggml avx512 %d threads %d\n", sym<int (*)()>("ggml_cpu_has_avx512")(), T); bool check = getenv("CHECK");
    for (auto& c : load_cases(argv[2], argc > 4 ? argv[4] : "", argc > 5 ? argv[5] : "")) for (int mode = 0; mode < 3; mode++) {
        bool rows = c.op == "LayerNorm" || c.op == "RMSNorm"; if (!rows && c.op != "GroupNorm" || c.dtypes[0] != "f32") continue; if (mode == 2 && c.op != "RMSNorm") continue;
        int64_t n = c.count(), m = rows ? atoll(c.param.c_str()) : c.dims[1]; int k = sets_for(8 * n);
        P ctx = ggml_init({(size_t)(n * 4 * (mode == 0 ? 5 : 3) + m * 8 + (4 << 20)) * k, nullptr, false}); std::vector<P> g(k); P y0 = nullptr, x0 = nullptr; std::vector<float> W(m), B(m);
        fill_f32(W.data(), m, 7, 1.f, .1f); fill_f32(B.data(), m, 8);
        for (int i = 0; i < k; i++) {
            P x = rows ? t4(ctx, 0, m, n / m, 1, 1) : t4(ctx, 0, c.dims[3], c.dims[2], c.dims[1], c.dims[0]); fill_f32(data(x), n, i + 1);
            P w = rows ? t4(ctx, 0, m, 1, 1, 1) : t4(ctx, 0, 1, 1, m, 1), b = rows ? t4(ctx, 0, m, 1, 1, 1) : t4(ctx, 0, 1, 1, m, 1); memcpy(data(w), W.data(), m * 4); memcpy(data(b), B.data(), m * 4);
            P y; if (mode == 2) { P dy = t4(ctx, 0, m, n / m, 1, 1); fill_f32(data(dy), n, i + 60); y = rback(ctx, dy, x, 1e-5f); }
            else y = c.op == "LayerNorm" ? norm(ctx, x, 1e-5f) : c.op == "RMSNorm" ? rms(ctx, x, 1e-5f) : gn(ctx, x, atoi(c.param.c_str()), 1e-5f);
            if (mode == 0) { y = mul(ctx, y, w); if (c.op != "RMSNorm") y = add(ctx, y, b); }
            memset(data(y), 0, n * 4); g[i] = graph(ctx); expand(g[i], y); if (!i) { y0 = y; x0 = x; }
        }
        compute(be, g[0]);
        if (check && mode == 0) { std::vector<float> r; reference(c, data(x0), W.data(), B.data(), nullptr, nullptr, r); fprintf(stderr, "# check ggml %s %s max abs err %.2e\n", c.op.c_str(), c.name.c_str(), max_err(r, data(y0))); }
        emit(mode ? "ggml-bare" : "ggml", c.op, c.name, mode == 2 ? "bwd" : "fwd", "f32", T, measure([&](int i) { compute(be, g[i]); }, k));
        ggml_free(ctx);
    }
}
