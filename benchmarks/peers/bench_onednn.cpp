// Times oneDNN primitives: bench_onednn cases.tsv THREADS [op [case]].  Compiles against the v3 API (a build of a current
// release) and against v2.6 (Debian's libdnnl-dev; no GroupNorm, InstanceNorm or RMSNorm there; peers named onednn2*).
// peers: onednn = plain layout (nchw / rows), onednn-nhwc and onednn-blk16 = channels-last and 16-blocked
// layouts, where the primitive takes them (a user of plain NCHW would pay reorders on top: not counted).
// fwd = forward_training with mean and variance outputs (BatchNormEval: inference with given statistics);
// bwd = backward with diff_src, diff_scale, diff_shift.  Implementation name goes to stderr.
// CHECK=1 compares the plain-layout forward with a plain double reference.
#include "bench_common.h"
#include <oneapi/dnnl/dnnl.hpp>
#include <omp.h>
using namespace dnnl; typedef memory::desc MD; typedef memory::format_tag FT; typedef memory::data_type DT;
#if DNNL_VERSION_MAJOR >= 3
static const bool V3 = true; static std::string peer_name(const char* s) { return s; }
template <class P, class F> static typename P::primitive_desc pd_f(engine& e, prop_kind k, const MD& d, F fl) { return {e, k, d, d, 1e-5f, fl}; }
template <class P, class F, class H> static typename P::primitive_desc pd_b(engine& e, const MD& d, F fl, const H& h) { return {e, prop_kind::backward, d, d, d, 1e-5f, fl, h}; }
static lrn_forward::primitive_desc lrn_f(engine& e, const MD& d, int s, float a, float b, float k) { return {e, prop_kind::forward_training, algorithm::lrn_across_channels, d, d, s, a, b, k}; }
static lrn_backward::primitive_desc lrn_b(engine& e, const MD& d, int s, float a, float b, float k, const lrn_forward::primitive_desc& h) { return {e, algorithm::lrn_across_channels, d, d, d, s, a, b, k, h}; }
#else
static const bool V3 = false; static std::string peer_name(const char* s) { return std::string("onednn2") + (s + 6); }
template <class P, class F> static typename P::primitive_desc pd_f(engine& e, prop_kind k, const MD& d, F fl) { return {typename P::desc(k, d, 1e-5f, fl), e}; }
template <class P, class F, class H> static typename P::primitive_desc pd_b(engine& e, const MD& d, F fl, const H& h) { return {typename P::desc(prop_kind::backward, d, d, 1e-5f, fl), e, h}; }
static lrn_forward::primitive_desc lrn_f(engine& e, const MD& d, int s, float a, float b, float k) { return {lrn_forward::desc(prop_kind::forward_training, algorithm::lrn_across_channels, d, s, a, b, k), e}; }
static lrn_backward::primitive_desc lrn_b(engine& e, const MD& d, int s, float a, float b, float k, const lrn_forward::primitive_desc& h) { return {lrn_backward::desc(algorithm::lrn_across_channels, d, d, s, a, b, k), e, h}; }
#endif
int main(int argc, char** argv) {
    int T = atoi(argv[2]); omp_set_num_threads(T); bool check = getenv("CHECK");
    engine eng(engine::kind::cpu, 0); stream st(eng);
    auto v = dnnl_version(); fprintf(stderr, "# oneDNN %d.%d.%d threads %d\n", v->major, v->minor, v->patch, T);
    for (auto& c : load_cases(argv[1], argc > 3 ? argv[3] : "", argc > 4 ? argv[4] : "")) for (auto& dt : c.dtypes) for (int lay = 0; lay < 3; lay++, free_all()) {
        bool rows = c.op == "LayerNorm" || c.op == "RMSNorm"; if (rows && lay) continue;
        if (!rows && c.op != "GroupNorm" && c.op != "InstanceNorm" && c.op != "BatchNorm" && c.op != "BatchNormEval" && c.op != "LRN") continue;
        if (lay == 2 && (c.op == "GroupNorm" || c.op == "InstanceNorm")) continue;
        int64_t n = c.count(), N = c.dims[0], C = c.dims.size() > 1 ? c.dims[1] : 1, S = n / (N * C), m = rows ? atoll(c.param.c_str()) : C;
        if (lay && C % 16) continue; // (v2.6 crashes in channels-last LRN with 5 channels)
        int64_t H = S, W = 1; if (c.dims.size() == 4) { H = c.dims[2]; W = c.dims[3]; } else if (!rows) { H = W = (int64_t)std::llround(std::sqrt((double)S)); if (H * W != S) { H = S; W = 1; } }
        DT t = dt == "bf16" ? DT::bf16 : DT::f32; int es = t == DT::f32 ? 4 : 2; std::string cn = c.name + " " + dt;
        const std::string peer_s = peer_name(lay == 0 ? "onednn" : lay == 1 ? "onednn-nhwc" : "onednn-blk16"); const char* peer = peer_s.c_str();
        if (!V3 && (c.op == "RMSNorm" || c.op == "GroupNorm" || c.op == "InstanceNorm")) continue;
        MD d = rows ? MD({n / m, m}, t, FT::ab) : MD({N, C, H, W}, t, lay == 0 ? FT::nchw : lay == 1 ? FT::nhwc : FT::nChw16c);
        MD sc({m}, DT::f32, FT::a);
        try {
            int k = sets_for(2 * n * es); std::vector<memory> X, Y, D, E, WS;
            auto mk = [&](const MD& q) { return memory(q, eng, aligned(q.get_size())); };
            for (int i = 0; i < k; i++) { X.push_back(mk(d)); Y.push_back(mk(d)); D.push_back(mk(d)); E.push_back(mk(d));
                if (t == DT::f32) { fill_f32((float*)X[i].get_data_handle(), n, i + 1); fill_f32((float*)D[i].get_data_handle(), n, i + 50); }
                else { fill_bf16((uint16_t*)X[i].get_data_handle(), n, i + 1); fill_bf16((uint16_t*)D[i].get_data_handle(), n, i + 50); } }
            memory w = mk(sc), b = mk(sc), dw = mk(sc), db = mk(sc); fill_f32((float*)w.get_data_handle(), m, 7, 1.f, .1f); fill_f32((float*)b.get_data_handle(), m, 8);
            auto run2 = [&](primitive& f, std::vector<std::unordered_map<int, memory>>& a, const char* pass, const std::string& impl) {
                fprintf(stderr, "# impl %s %s %s %s: %s\n", peer, c.op.c_str(), cn.c_str(), pass, impl.c_str());
                emit(peer, c.op, c.name, pass, dt.c_str(), T, measure([&](int i) { f.execute(st, a[i]); st.wait(); }, k)); };
            auto chk = [&] { if (!check || lay || t != DT::f32) return; std::vector<float> r; std::vector<float> mu(m, 0.f), va(m, 1.f);
                reference(c, (float*)X[0].get_data_handle(), (float*)w.get_data_handle(), (float*)b.get_data_handle(), mu.data(), va.data(), r);
                fprintf(stderr, "# check %s %s max abs err %.2e\n", c.op.c_str(), cn.c_str(), max_err(r, (float*)Y[0].get_data_handle())); };
            std::vector<std::unordered_map<int, memory>> fa(k), ba(k); auto SF = normalization_flags::use_scale | normalization_flags::use_shift;
            auto stat = [&](const MD& sd) { for (int i = 0; i < k; i++) { memory mean = mk(sd), var = mk(sd);
                fa[i] = {{DNNL_ARG_SRC, X[i]}, {DNNL_ARG_DST, Y[i]}, {DNNL_ARG_MEAN, mean}, {DNNL_ARG_VARIANCE, var}, {DNNL_ARG_SCALE, w}, {DNNL_ARG_SHIFT, b}};
                ba[i] = {{DNNL_ARG_SRC, X[i]}, {DNNL_ARG_DIFF_DST, D[i]}, {DNNL_ARG_DIFF_SRC, E[i]}, {DNNL_ARG_MEAN, mean}, {DNNL_ARG_VARIANCE, var}, {DNNL_ARG_SCALE, w}, {DNNL_ARG_DIFF_SCALE, dw}, {DNNL_ARG_DIFF_SHIFT, db}}; if (!V3) ba[i][DNNL_ARG_SHIFT] = b; } };
            auto both = [&](primitive f, primitive g, const std::string& fi, const std::string& bi) { for (int i = 0; i < k; i++) f.execute(st, fa[i]); st.wait(); chk(); run2(f, fa, "fwd", fi); run2(g, ba, "bwd", bi); };
            if (c.op == "LayerNorm") {
                auto p = pd_f<layer_normalization_forward>(eng, prop_kind::forward_training, d, SF); auto q = pd_b<layer_normalization_backward>(eng, d, SF, p);
                stat(p.mean_desc()); both(layer_normalization_forward(p), layer_normalization_backward(q), p.impl_info_str(), q.impl_info_str());
#if DNNL_VERSION_MAJOR >= 3
            } else if (c.op == "RMSNorm") {
                auto RF = normalization_flags::use_scale | normalization_flags::rms_norm;
                layer_normalization_forward::primitive_desc p(eng, prop_kind::forward_training, d, d, 1e-5f, RF); stat(MD({n / m}, DT::f32, FT::a));
                for (auto& a : fa) { a.erase(DNNL_ARG_SHIFT); a.erase(DNNL_ARG_MEAN); } for (auto& a : ba) { a.erase(DNNL_ARG_DIFF_SHIFT); a.erase(DNNL_ARG_MEAN); }
                layer_normalization_forward f(p); for (int i = 0; i < k; i++) f.execute(st, fa[i]); st.wait(); chk(); run2(f, fa, "fwd", p.impl_info_str());
                layer_normalization_backward::primitive_desc q(eng, prop_kind::backward, d, d, d, 1e-5f, RF, p); layer_normalization_backward g(q); run2(g, ba, "bwd", q.impl_info_str());
            } else if (c.op == "GroupNorm" || c.op == "InstanceNorm") {
                int64_t G = c.op == "GroupNorm" ? atoll(c.param.c_str()) : C;
                group_normalization_forward::primitive_desc p(eng, prop_kind::forward_training, d, d, G, 1e-5f, SF); group_normalization_backward::primitive_desc q(eng, prop_kind::backward, d, d, d, G, 1e-5f, SF, p);
                stat(p.mean_desc()); both(group_normalization_forward(p), group_normalization_backward(q), p.impl_info_str(), q.impl_info_str());
#endif
            } else if (c.op == "BatchNorm") {
                auto p = pd_f<batch_normalization_forward>(eng, prop_kind::forward_training, d, SF); auto q = pd_b<batch_normalization_backward>(eng, d, SF, p);
                stat(p.mean_desc()); both(batch_normalization_forward(p), batch_normalization_backward(q), p.impl_info_str(), q.impl_info_str());
            } else if (c.op == "BatchNormEval") {
                auto p = pd_f<batch_normalization_forward>(eng, prop_kind::forward_inference, d, SF | normalization_flags::use_global_stats);
                stat(p.mean_desc()); for (auto& a : fa) { float* mu = (float*)a[DNNL_ARG_MEAN].get_data_handle(), *va = (float*)a[DNNL_ARG_VARIANCE].get_data_handle(); for (int64_t i = 0; i < C; i++) { mu[i] = 0; va[i] = 1; } }
                batch_normalization_forward f(p); f.execute(st, fa[0]); st.wait(); chk(); run2(f, fa, "fwd", p.impl_info_str());
            } else if (c.op == "LRN") {
                auto a = split(c.param, ':'); int sz = atoi(a[0].c_str()); float al = atof(a[1].c_str()), be = atof(a[2].c_str()), kk = atof(a[3].c_str());
                auto p = lrn_f(eng, d, sz, al, be, kk); auto q = lrn_b(eng, d, sz, al, be, kk, p);
                for (int i = 0; i < k; i++) { fa[i] = {{DNNL_ARG_SRC, X[i]}, {DNNL_ARG_DST, Y[i]}}; ba[i] = {{DNNL_ARG_SRC, X[i]}, {DNNL_ARG_DIFF_DST, D[i]}, {DNNL_ARG_DIFF_SRC, E[i]}};
                    if (p.workspace_desc().get_size()) { memory ws = mk(p.workspace_desc()); fa[i][DNNL_ARG_WORKSPACE] = ws; ba[i][DNNL_ARG_WORKSPACE] = ws; } }
                both(lrn_forward(p), lrn_backward(q), p.impl_info_str(), q.impl_info_str());
            }
        } catch (dnnl::error& e) { fprintf(stderr, "# %s %s %s: %s\n", peer, c.op.c_str(), cn.c_str(), e.what()); }
    }
}
