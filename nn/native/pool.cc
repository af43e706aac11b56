// Max pooling and its derivative in float32 for CPU: images [N, H, W, C], windows padded as 'SAME'.
//
// Where several numbers of a window are its maximum they share the gradient.

#include <algorithm>
#include <cstdint>
#include <limits>

#include "parallel.h"

namespace {

namespace ffi = xla::ffi;
using Floats = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Floats>;
using vrn::At;
using vrn::kLanes;
using vrn::Parallel;
using vrn::Put;
using vrn::Vec;

// An axis: how many numbers and windows it has, and where windows begin.
struct Axis {
  int64_t size, windows, window, stride, pad;
  Axis(int64_t size, int64_t windows, int64_t window, int64_t stride)
      : size(size),
        windows(windows),
        window(window),
        stride(stride),
        pad(std::max<int64_t>(0, (windows - 1) * stride + window - size) / 2) {}
  int64_t first(int64_t i) const { return std::max<int64_t>(0, i * stride - pad); }
  int64_t last(int64_t i) const { return std::min(size, i * stride - pad + window); }
};

// Calls f(T(), window, reads) for every window of an image and vector of its channels, or number
// where they fill no vector; reads(g) calls g with every place of x in the window.
template <typename F>
void Windows(const Axis& down, const Axis& across, int64_t channels, const F& f) {
  for (int64_t row = 0; row < down.windows; ++row)
    for (int64_t column = 0; column < across.windows; ++column) {
      const auto each = [&](auto kind, int64_t c) {
        f(kind, (row * across.windows + column) * channels + c, [&](const auto& g) {
          for (int64_t i = down.first(row); i < down.last(row); ++i)
            for (int64_t j = across.first(column); j < across.last(column); ++j)
              g((i * across.size + j) * channels + c);
        });
      };
      int64_t c = 0;
      for (; c + kLanes <= channels; c += kLanes) each(Vec(), c);
      for (; c < channels; ++c) each(float(), c);
    }
}

ffi::Error Forward(ffi::ThreadPool pool, Floats x, Result y, int64_t window, int64_t stride) {
  const auto in = x.dimensions(), out = y->dimensions();
  const Axis down(in[1], out[1], window, stride), across(in[2], out[2], window, stride);
  Parallel(pool, in[0], [&](int64_t image) {
    const float* const from = x.typed_data() + image * in[1] * in[2] * in[3];
    float* const to = y->typed_data() + image * out[1] * out[2] * in[3];
    Windows(down, across, in[3], [&](auto kind, int64_t place, const auto& reads) {
      using T = decltype(kind);
      T most = T{} - std::numeric_limits<float>::infinity();
      reads([&](int64_t at) {
        const T one = At<T>(from + at);
        most = (one > most) | (one != one) ? one : most;  // what is no number stays so
      });
      Put(to + place, most);
    });
  });
  return ffi::Error::Success();
}

ffi::Error Backward(ffi::ThreadPool pool, Floats x, Floats y, Floats g, Result d_x, int64_t window,
                    int64_t stride) {
  const auto in = x.dimensions(), out = y.dimensions();
  const Axis down(in[1], out[1], window, stride), across(in[2], out[2], window, stride);
  Parallel(pool, in[0], [&](int64_t image) {
    const int64_t size = in[1] * in[2] * in[3], results = out[1] * out[2] * in[3];
    const float* const from = x.typed_data() + image * size;
    float* const to = d_x->typed_data() + image * size;
    std::fill_n(to, size, 0.0f);
    Windows(down, across, in[3], [&](auto kind, int64_t place, const auto& reads) {
      using T = decltype(kind);
      const T most = At<T>(y.typed_data() + image * results + place);
      T count{};
      reads([&](int64_t at) { count += At<T>(from + at) == most ? T{} + 1 : T{}; });
      const T share = At<T>(g.typed_data() + image * results + place) / count;
      reads([&](int64_t at) {
        Put(to + at, At<T>(to + at) + (At<T>(from + at) == most ? share : T{}));
      });
    });
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(vrn_pool_forward, Forward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()
                                  .Attr<int64_t>("window")
                                  .Attr<int64_t>("stride"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(vrn_pool_backward, Backward,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Ret<Floats>()
                                  .Attr<int64_t>("window")
                                  .Attr<int64_t>("stride"));
