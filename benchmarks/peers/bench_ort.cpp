// Times ONNX Runtime's CPU provider through its C API (no JS in the figure).  bench_ort LIB cases.tsv THREADS [op [case]]
// Only the function table's stable positions are declared here, so no header of theirs is needed.
// One-operator models are encoded by hand; scale/shift are initialisers; inputs and outputs are caller-owned
// tensors (no output allocation in the timed call).  Inference build: forward only.
// CHECK=1 compares each output with a plain double reference.
#include "bench_common.h"
#include <dlfcn.h>
typedef void* P; typedef P Status;
static P const* api; template <class F> static F fn(int i) { return (F)api[i]; }
static bool ok(Status s, const char* what) { if (!s) return true; fprintf(stderr, "# ort %s: %.300s\n", what, fn<const char* (*)(P)>(2)(s)); return false; }
// -- protobuf
typedef std::string B;
static B vi(uint64_t v) { B r; while (v > 127) { r += (char)(v | 128); v >>= 7; } r += (char)v; return r; }
static B I(int f, uint64_t v) { return vi(f << 3) + vi(v); }
static B S(int f, const B& s) { return vi(f << 3 | 2) + vi(s.size()) + s; }
static B Fl(int f, float v) { return vi(f << 3 | 5) + B((char*)&v, 4); }
static B ai(const char* n, int64_t v) { return S(5, S(1, n) + I(3, (uint64_t)v) + I(20, 2)); }
static B af(const char* n, float v) { return S(5, S(1, n) + Fl(2, v) + I(20, 1)); }
static B info(const char* n, const std::vector<int64_t>& d, int t) { B s; for (auto v : d) s += S(1, I(1, v)); return S(1, n) + S(2, S(1, I(1, t) + S(2, s))); }
static B init(const char* n, const std::vector<int64_t>& d, int t, const void* p, size_t bytes) { B s; for (auto v : d) s += I(1, v); return S(5, s + I(2, t) + S(8, n) + S(9, B((const char*)p, bytes))); }
int main(int argc, char** argv) {
    void* h = dlopen(argv[1], RTLD_NOW); if (!h) { fprintf(stderr, "%s\n", dlerror()); return 1; }
    struct Base { P const* (*GetApi)(uint32_t); const char* (*GetVersionString)(); };
    auto base = ((const Base* (*)())dlsym(h, "OrtGetApiBase"))(); api = base->GetApi(17);
    int T = atoi(argv[3]); fprintf(stderr, "# onnxruntime %s threads %d\n", base->GetVersionString(), T);
    P env, so, mi; ok(fn<Status (*)(int, const char*, P*)>(3)(3, "b", &env), "env"); ok(fn<Status (*)(P*)>(10)(&so), "so");
    ok(fn<Status (*)(P, int)>(24)(so, T), "intra"); ok(fn<Status (*)(P, int)>(25)(so, 1), "inter"); ok(fn<Status (*)(P, int)>(23)(so, 99), "opt");
    ok(fn<Status (*)(int, int, P*)>(69)(1, 0, &mi), "mem");
    bool check = getenv("CHECK");
    for (auto& c : load_cases(argv[2], argc > 4 ? argv[4] : "", argc > 5 ? argv[5] : "")) for (auto& dt : c.dtypes) {
        struct V { const char* peer, *op, *type; int opset; bool ms; };
        std::vector<V> vs;
        if (c.op == "LayerNorm") { vs = {{"ort", "LayerNorm", "LayerNormalization", 17, false}}; if (dt == "f32") vs.push_back({"ort", "SkipLayerNorm", "SkipLayerNormalization", 17, true}); }
        else if (c.op == "RMSNorm") vs = {{"ort", "RMSNorm", "RMSNormalization", 23, false}, {"ort-simplified", "RMSNorm", "SimplifiedLayerNormalization", 17, false}, {"ort", "SkipRMSNorm", "SkipSimplifiedLayerNormalization", 17, true}};
        else if (c.op == "GroupNorm") vs = {{"ort", "GroupNorm", "GroupNormalization", 21, false}};
        else if (c.op == "LRN") vs = {{"ort", "LRN", "LRN", 13, false}};
        else if (c.op == "InstanceNorm") vs = {{"ort", "InstanceNorm", "InstanceNormalization", 22, false}};
        else if (c.op == "BatchNormEval") vs = {{"ort", "BatchNormEval", "BatchNormalization", 15, false}};
        for (auto& v : vs) {
            int t = dt == "bf16" ? 16 : 1, es = t == 1 ? 4 : 2; int64_t n = c.count(), C = c.dims.size() > 1 ? c.dims[1] : 1; bool skip = v.ms;
            std::vector<int64_t> dims = c.dims, wd{C}; int axis = -1;
            if (c.op == "LayerNorm" || c.op == "RMSNorm") { int64_t m = atoll(c.param.c_str()); wd.clear(); int64_t q = 1; int i = dims.size();
                while (q < m) { i--; q *= dims[i]; wd.insert(wd.begin(), dims[i]); } axis = i;
                if (skip) { dims = {1, n / m, m}; wd = {m}; } }
            int64_t m = 1; for (auto d : wd) m *= d;
            std::vector<float> w(m), b(m), mean(m), var(m); fill_f32(w.data(), m, 7, 1.f, .1f); fill_f32(b.data(), m, 8); fill_f32(mean.data(), m, 9, 0, .1f); fill_f32(var.data(), m, 10, 1.f, .05f);
            auto ini = [&](const char* nm, std::vector<float>& a) { if (t == 1) return init(nm, wd, 1, a.data(), m * 4);
                std::vector<uint16_t> q(m); for (int64_t i = 0; i < m; i++) { uint32_t u; memcpy(&u, &a[i], 4); q[i] = u >> 16; } return init(nm, wd, 16, q.data(), m * 2); };
            B node = S(1, "X"), ins; if (skip) node += S(1, "K");
            if (c.op != "LRN") { node += S(1, "W"); ins += ini("W", w); if (c.op != "RMSNorm") { node += S(1, "B"); ins += ini("B", b); } }
            if (c.op == "BatchNormEval") { node += S(1, "M") + S(1, "R"); ins += ini("M", mean) + ini("R", var); }
            node += S(2, "Y") + S(3, "n") + S(4, v.type); if (v.ms) node += S(7, "com.microsoft");
            if (c.op == "LRN") { auto q = split(c.param, ':'); node += ai("size", atoi(q[0].c_str())) + af("alpha", atof(q[1].c_str())) + af("beta", atof(q[2].c_str())) + af("bias", atof(q[3].c_str())); }
            else node += af("epsilon", 1e-5f);
            if (!skip && axis >= 0) node += ai("axis", axis);
            if (c.op == "GroupNorm") node += ai("num_groups", atoi(c.param.c_str()));
            B graph = S(1, node) + S(2, "g") + ins + S(11, info("X", dims, t)) + (skip ? S(11, info("K", dims, t)) : B()) + S(12, info("Y", dims, t));
            B model = I(1, 8) + S(7, graph) + S(8, S(1, "") + I(2, v.opset)) + S(8, S(1, "com.microsoft") + I(2, 1));
            P ses; B what = B(v.type) + " " + c.name + " " + dt;
            if (!ok(fn<Status (*)(P, const void*, size_t, P, P*)>(8)(env, model.data(), model.size(), so, &ses), what.c_str())) continue;
            int k = sets_for(2 * n * es); std::vector<P> x(k), y(k), z(k); std::vector<void*> xb(k), yb(k);
            auto tensor = [&](void* p) { P r; ok(fn<Status (*)(P, void*, size_t, const int64_t*, size_t, int, P*)>(49)(mi, p, n * es, dims.data(), dims.size(), t, &r), "tensor"); return r; };
            for (int i = 0; i < k; i++) { xb[i] = aligned(n * es); yb[i] = aligned(n * es); if (t == 1) fill_f32((float*)xb[i], n, i + 1); else fill_bf16((uint16_t*)xb[i], n, i + 1); x[i] = tensor(xb[i]); y[i] = tensor(yb[i]);
                if (skip) { void* q = aligned(n * es); fill_f32((float*)q, n, i + 100); z[i] = tensor(q); } }
            const char* in[] = {"X", "K"}, *on[] = {"Y"}; auto run = fn<Status (*)(P, P, const char* const*, P const*, size_t, const char* const*, size_t, P*)>(9);
            P a0[] = {x[0], z[0]}; if (!ok(run(ses, nullptr, in, a0, 1 + skip, on, 1, &y[0]), what.c_str())) { free_all(); continue; }
            if (check && !skip && t == 1) { std::vector<float> r; reference(c, (float*)xb[0], w.data(), b.data(), mean.data(), var.data(), r); fprintf(stderr, "# check %s max abs err %.2e\n", what.c_str(), max_err(r, (float*)yb[0])); }
            emit(v.peer, v.op, c.name, "fwd", dt.c_str(), T, measure([&](int i) { P a[] = {x[i], z[i]}; run(ses, nullptr, in, a, 1 + skip, on, 1, &y[i]); }, k));
            fn<void (*)(P)>(95)(ses); free_all();
        }
    }
}
