// PyTorch's aten operators called from C++ (Debian's libtorch): no Python in the figure, which matters for
// the tiny cases only.  bench_torch cases.tsv THREADS PEERNAME [op [case]]
// ATEN_CPU_CAPABILITY and MALLOC_* in the environment act as in Python.  Outputs are allocated by PyTorch in each call.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/api/include/torch/types.h>
#include "bench_common.h"
int main(int argc, char** argv) {
    int T = atoi(argv[2]); at::set_num_threads(T); const char* peer = argv[3]; c10::InferenceMode guard;
    fprintf(stderr, "# libtorch %s threads %d\n", "aten", at::get_num_threads());
    for (auto& c : load_cases(argv[1], argc > 4 ? argv[4] : "", argc > 5 ? argv[5] : "")) for (auto& dt : c.dtypes) {
        if (c.op != "LayerNorm" && c.op != "GroupNorm" && c.op != "BatchNorm" && c.op != "BatchNormEval" && c.op != "InstanceNorm") continue;
        auto ty = dt == "bf16" ? at::kBFloat16 : at::kFloat; int64_t n = c.count(), N = c.dims[0], C = c.dims.size() > 1 ? c.dims[1] : 1, S = n / (N * C); int k = sets_for(2 * n * (dt == "bf16" ? 2 : 4));
        std::vector<at::Tensor> X, D; for (int i = 0; i < k; i++) { X.push_back(at::randn(c.dims).to(ty)); D.push_back(at::randn(c.dims).to(ty)); }
        auto put = [&](const char* pass, std::function<void(int)> f) { try { emit(peer, c.op, c.name, pass, dt.c_str(), T, measure(f, k)); } catch (std::exception& e) { fprintf(stderr, "# %s %s %s: %.150s\n", c.op.c_str(), c.name.c_str(), pass, e.what()); } };
        try {
            std::vector<std::tuple<at::Tensor, at::Tensor, at::Tensor>> Z(k);
            if (c.op == "LayerNorm") {
                int64_t m = atoll(c.param.c_str()); std::vector<int64_t> s; int64_t q = 1; for (int i = (int)c.dims.size() - 1; q < m; i--) { q *= c.dims[i]; s.insert(s.begin(), c.dims[i]); }
                auto w = at::randn(s).to(ty), b = at::randn(s).to(ty); for (int i = 0; i < k; i++) Z[i] = at::native_layer_norm(X[i], s, w, b, 1e-5); for (auto& z : Z) std::get<0>(z).reset();
                put("fwd", [&](int i) { at::native_layer_norm(X[i], s, w, b, 1e-5); });
                put("bwd", [&](int i) { at::native_layer_norm_backward(D[i], X[i], s, std::get<1>(Z[i]), std::get<2>(Z[i]), w, b, {true, true, true}); });
            } else if (c.op == "GroupNorm") {
                int64_t g = atoll(c.param.c_str()); auto w = at::randn({C}).to(ty), b = at::randn({C}).to(ty); for (int i = 0; i < k; i++) Z[i] = at::native_group_norm(X[i], w, b, N, C, S, g, 1e-5); for (auto& z : Z) std::get<0>(z).reset();
                put("fwd", [&](int i) { at::native_group_norm(X[i], w, b, N, C, S, g, 1e-5); });
                put("bwd", [&](int i) { at::native_group_norm_backward(D[i], X[i], std::get<1>(Z[i]), std::get<2>(Z[i]), w, N, C, S, g, {true, true, true}); });
            } else if (c.op == "BatchNorm" || c.op == "BatchNormEval") {
                bool tr = c.op == "BatchNorm"; auto w = at::randn({C}), b = at::randn({C}), rm = at::zeros({C}), rv = at::ones({C}); for (int i = 0; i < k; i++) Z[i] = at::native_batch_norm(X[i], w, b, rm, rv, tr, .1, 1e-5); for (auto& z : Z) std::get<0>(z).reset();
                put("fwd", [&](int i) { at::native_batch_norm(X[i], w, b, rm, rv, tr, .1, 1e-5); });
                if (tr) put("bwd", [&](int i) { at::native_batch_norm_backward(D[i], X[i], w, rm, rv, std::get<1>(Z[i]), std::get<2>(Z[i]), true, 1e-5, {true, true, true}); });
            } else if (c.op == "InstanceNorm") { auto w = at::randn({C}), b = at::randn({C}); put("fwd", [&](int i) { at::instance_norm(X[i], w, b, {}, {}, true, .1, 1e-5, false); }); }
        } catch (std::exception& e) { fprintf(stderr, "# %s %s: %.150s\n", c.op.c_str(), c.name.c_str(), e.what()); }
    }
}
