// Group normalisation with what follows it, and its derivative, in float32 for CPU.
//
//   y = r((x - mean) inverse scale + shift + residual)
//
// Images are [N, H, W, C]; mean, inverse (the reciprocal deviation), scale and shift are [N, C];
// r is the rectifier or nothing, the residual [N, H, W, C] or absent. An image is read twice, the
// second time from the cache if it fits there, and written once.
//
// An image is taken as rows of a whole number of vectors: of one pixel, or of as many as it takes to
// add several vectors up side by side.
// Pixels that do not fill a last row are taken number by number. Sums are of pieces, which rounds
// less than one long sum, and never depend on threads or timing.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <type_traits>
#include <vector>

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

// Floats of a piece: it stays in the first-level cache while it is read twice.
constexpr int64_t kPiece = 4096;

// Vectors that are added up side by side, for one addition takes as long as several.
constexpr int kTogether = 4;

// How an image lies in memory.
struct Layout {
  int64_t images, pixels, channels, groups;
  int64_t width;  // floats of a row
  int64_t rows;

  Layout(const Floats& x, int64_t groups)
      : images(x.dimensions()[0]),
        pixels(x.dimensions()[1] * x.dimensions()[2]),
        channels(x.dimensions()[3]),
        groups(groups),
        width(std::lcm(channels, kLanes)),
        rows(0) {
    const int64_t wide = std::lcm(channels, kTogether * kLanes);
    if (size() % wide == 0) width = wide;
    rows = size() / width;
  }

  int64_t size() const { return pixels * channels; }
  int64_t whole() const { return rows * width; }  // floats of all rows
  int64_t members() const { return channels / groups; }
};

// Calls f(T(), place, column) for every vector of the rows and every number after them.
template <typename F>
void Each(const Layout& layout, const F& f) {
  for (int64_t row = 0; row < layout.whole(); row += layout.width)
    for (int64_t column = 0; column < layout.width; column += kLanes)
      f(Vec(), row + column, column);
  for (int64_t i = layout.whole(); i < layout.size(); ++i) f(float(), i, i - layout.whole());
}

// Calls f(V, column) for columns of V vectors that make up a row.
template <typename F>
void Columns(int64_t width, const F& f) {
  int64_t column = 0;
  for (; column + kTogether * kLanes <= width; column += kTogether * kLanes)
    f(std::integral_constant<int, kTogether>(), column);
  for (; column < width; column += kLanes) f(std::integral_constant<int, 1>(), column);
}

// Calls f(first, rows) for pieces of the rows.
template <typename F>
void Pieces(const Layout& layout, const F& f) {
  const int64_t most = std::max<int64_t>(1, kPiece / layout.width);
  for (int64_t row = 0; row < layout.rows; row += most) f(row, std::min(most, layout.rows - row));
}

// One number per channel as a row has them.
struct Row {
  std::vector<float> storage;
  explicit Row(const Layout& layout) : storage(layout.width) {}
  Row(const Layout& layout, const float* channels) : Row(layout) {
    for (int64_t start = 0; start < layout.width; start += layout.channels)
      std::copy_n(channels, layout.channels, storage.data() + start);
  }
  template <typename T>
  T at(int64_t column) const {
    return At<T>(storage.data() + column);
  }
  void put(int64_t column, Vec value) { Put(storage.data() + column, value); }
};

// Means and reciprocal deviations of an image, [C] each, groups having one number for all members.
void Moments(const Layout& layout, const float* x, double epsilon, float* mean, float* inverse) {
  // Of every column of a row: the mean and the sum of squared differences to it, joined piece by
  // piece (Chan, Golub and LeVeque 1983).
  Row means(layout), squares(layout);
  Pieces(layout, [&](int64_t first, int64_t rows) {
    const float share = static_cast<float>(rows) / static_cast<float>(first + rows);
    Columns(layout.width, [&](auto vectors, int64_t column) {
      constexpr int V = decltype(vectors)::value;
      const float* from = x + first * layout.width + column;
      Vec sum[V] = {}, square[V] = {};
      for (int64_t row = 0; row < rows; ++row)
        for (int v = 0; v < V; ++v) sum[v] += At<Vec>(from + row * layout.width + v * kLanes);
      for (int v = 0; v < V; ++v) sum[v] /= static_cast<float>(rows);
      for (int64_t row = 0; row < rows; ++row)
        for (int v = 0; v < V; ++v) {
          const Vec apart = At<Vec>(from + row * layout.width + v * kLanes) - sum[v];
          square[v] += apart * apart;
        }
      for (int v = 0; v < V; ++v) {
        const int64_t at = column + v * kLanes;
        const Vec apart = sum[v] - means.at<Vec>(at);
        // In this order, since the square of a large mean overflows.
        const Vec between = apart * (share * static_cast<float>(first)) * apart;
        squares.put(at, squares.at<Vec>(at) + square[v] + between);
        means.put(at, means.at<Vec>(at) + apart * share);
      }
    });
  });
  const double count = static_cast<double>(layout.pixels * layout.members());
  for (int64_t begin = 0; begin < layout.channels; begin += layout.members()) {
    const int64_t end = begin + layout.members();
    const auto each = [&](const auto& column, const auto& rest) {
      for (int64_t start = 0; start < layout.width; start += layout.channels)
        for (int64_t i = start + begin; i < start + end; ++i) column(i);
      for (int64_t start = layout.whole(); start < layout.size(); start += layout.channels)
        for (int64_t i = start + begin; i < start + end; ++i) rest(x[i]);
    };
    double sum = 0, square = 0;
    each([&](int64_t i) { sum += static_cast<double>(means.storage[i]) * layout.rows; },
         [&](double one) { sum += one; });
    const double centre = sum / count;
    each(
        [&](int64_t i) {
          const double apart = means.storage[i] - centre;
          square += squares.storage[i] + apart * apart * layout.rows;
        },
        [&](double one) { square += (one - centre) * (one - centre); });
    std::fill(mean + begin, mean + end, static_cast<float>(centre));
    std::fill(inverse + begin, inverse + end,
              static_cast<float>(1 / std::sqrt(square / count + epsilon)));
  }
}

// What normalisation multiplies and adds, as a row has it.
struct Affine {
  Row mean, factor, shift;
  Affine(const Layout& layout, const float* mean, const float* inverse, const float* scale,
         const float* shift)
      : mean(layout, mean), factor(layout, inverse), shift(layout, shift) {
    const Row scales(layout, scale);
    for (int64_t i = 0; i < layout.width; ++i) factor.storage[i] *= scales.storage[i];
  }
  template <typename T>
  T operator()(const float* x, int64_t column) const {
    return (At<T>(x) - mean.at<T>(column)) * factor.at<T>(column) + shift.at<T>(column);
  }
};

// What follows normalisation: nothing, the rectifier, or the residual and then the rectifier.
enum class Then { kNothing, kRectify, kJoin };

// Calls f with the constant that says which.
template <typename F>
void Choose(bool rectify, bool join, const F& f) {
  if (join) {
    f(std::integral_constant<Then, Then::kJoin>());
  } else if (rectify) {
    f(std::integral_constant<Then, Then::kRectify>());
  } else {
    f(std::integral_constant<Then, Then::kNothing>());
  }
}

ffi::Error ForwardImpl(ffi::ThreadPool pool, Floats x, Floats scale, Floats shift,
                       ffi::RemainingArgs residual, Result y, Result mean, Result inverse,
                       int64_t groups, double epsilon, bool rectify) {
  const Layout layout(x, groups);
  const float* joined = x.typed_data();  // not read where there is none
  if (residual.size() > 0) {
    auto given = residual.get<Floats>(0);
    if (given.has_error()) return given.error();
    joined = given->typed_data();
  }
  Parallel(pool, layout.images, [&](int64_t image) {
    const int64_t begin = image * layout.size(), row = image * layout.channels;
    const float* const from = x.typed_data() + begin;
    float* const to = y->typed_data() + begin;
    Moments(layout, from, epsilon, mean->typed_data() + row, inverse->typed_data() + row);
    const Affine affine(layout, mean->typed_data() + row, inverse->typed_data() + row,
                        scale.typed_data() + row, shift.typed_data() + row);
    Choose(rectify, residual.size() > 0, [&](auto then) {
      Each(layout, [&](auto kind, int64_t place, int64_t column) {
        using T = decltype(kind);
        T value = affine.template operator()<T>(from + place, column);
        if constexpr (then == Then::kJoin) value += At<T>(joined + begin + place);
        if constexpr (then != Then::kNothing) value = value < 0 ? T{} : value;  // NaN stays
        Put(to + place, value);
      });
    });
  });
  return ffi::Error::Success();
}

// The gradient as it passes the rectifier, whose sign is found again from x or, after a residual,
// read from y.
template <Then then, typename T>
T Passed(const Affine& affine, const float* g, const float* x, const float* y, int64_t column) {
  if constexpr (then == Then::kRectify)
    return affine.template operator()<T>(x, column) > 0 ? At<T>(g) : T{};
  if constexpr (then == Then::kJoin) return At<T>(y) > 0 ? At<T>(g) : T{};
  return At<T>(g);
}

// With n = (x - mean) inverse and g what passed, the gradient of x is
// inverse (scale g - mean(scale g) - n mean(scale g n)), means being those of the group.
template <Then then>
void Backward(const Layout& layout, const float* x, const float* y, const float* g,
              const float* mean, const float* inverse, const float* scale, const float* shift,
              float* d_x, float* d_scale, float* d_shift, float* d_residual) {
  const Affine affine(layout, mean, inverse, scale, shift);
  Row sums(layout), products(layout);
  Pieces(layout, [&](int64_t first, int64_t rows) {
    Columns(layout.width, [&](auto vectors, int64_t column) {
      constexpr int V = decltype(vectors)::value;
      Vec sum[V] = {}, product[V] = {};
      for (int64_t row = first; row < first + rows; ++row)
        for (int v = 0; v < V; ++v) {
          const int64_t at = column + v * kLanes, place = row * layout.width + at;
          const Vec one = Passed<then, Vec>(affine, g + place, x + place, y + place, at);
          sum[v] += one;
          product[v] += one * (At<Vec>(x + place) - affine.mean.at<Vec>(at));
        }
      for (int v = 0; v < V; ++v) {
        const int64_t at = column + v * kLanes;
        sums.put(at, sums.at<Vec>(at) + sum[v]);
        products.put(at, products.at<Vec>(at) + product[v]);
      }
    });
  });
  std::vector<double> total(layout.channels), along(layout.channels);
  for (int64_t start = 0; start < layout.width; start += layout.channels)
    for (int64_t c = 0; c < layout.channels; ++c) {
      total[c] += sums.storage[start + c];
      along[c] += products.storage[start + c];
    }
  for (int64_t i = layout.whole(); i < layout.size(); ++i) {
    const int64_t column = i - layout.whole(), channel = column % layout.channels;
    const double one = Passed<then, float>(affine, g + i, x + i, y + i, column);
    total[channel] += one;
    along[channel] += one * (x[i] - mean[channel]);
  }
  std::vector<float> slope(layout.channels), offset(layout.channels);
  const double count = static_cast<double>(layout.pixels * layout.members());
  for (int64_t begin = 0; begin < layout.channels; begin += layout.members()) {
    const int64_t end = begin + layout.members();
    double level = 0, tilt = 0;
    for (int64_t c = begin; c < end; ++c) {
      d_shift[c] = static_cast<float>(total[c]);
      d_scale[c] = static_cast<float>(along[c] * inverse[c]);
      level += scale[c] * total[c];
      tilt += scale[c] * along[c];
    }
    const double factor = inverse[begin];
    std::fill(offset.begin() + begin, offset.begin() + end,
              static_cast<float>(-factor * level / count));
    std::fill(slope.begin() + begin, slope.begin() + end,
              static_cast<float>(-factor * factor * factor * tilt / count));
  }
  const Row slopes(layout, slope.data()), offsets(layout, offset.data());
  Each(layout, [&](auto kind, int64_t place, int64_t column) {
    using T = decltype(kind);
    const T one = Passed<then, T>(affine, g + place, x + place, y + place, column);
    if constexpr (then == Then::kJoin) Put(d_residual + place, one);
    const T centred = At<T>(x + place) - affine.mean.at<T>(column);
    Put(d_x + place,
        one * affine.factor.at<T>(column) + offsets.at<T>(column) + centred * slopes.at<T>(column));
  });
}

ffi::Error BackwardImpl(ffi::ThreadPool pool, Floats x, Floats mean, Floats inverse, Floats scale,
                        Floats shift, Floats g, ffi::RemainingArgs result, Result d_x,
                        Result d_scale, Result d_shift, ffi::RemainingRets d_residual,
                        int64_t groups, bool rectify) {
  const Layout layout(x, groups);
  const float* y = x.typed_data();  // both not touched where there is no residual
  float* joined = d_x->typed_data();
  if (result.size() > 0) {
    auto given = result.get<Floats>(0);
    auto wanted = d_residual.get<Floats>(0);
    if (given.has_error()) return given.error();
    if (wanted.has_error()) return wanted.error();
    y = given->typed_data();
    joined = (*wanted)->typed_data();
  }
  Parallel(pool, layout.images, [&](int64_t image) {
    const int64_t begin = image * layout.size(), row = image * layout.channels;
    Choose(rectify, result.size() > 0, [&](auto then) {
      Backward<then>(layout, x.typed_data() + begin, y + begin, g.typed_data() + begin,
                     mean.typed_data() + row, inverse.typed_data() + row, scale.typed_data() + row,
                     shift.typed_data() + row, d_x->typed_data() + begin,
                     d_scale->typed_data() + row, d_shift->typed_data() + row, joined + begin);
    });
  });
  return ffi::Error::Success();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(vrn_norm_forward, ForwardImpl,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .RemainingArgs()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Attr<int64_t>("groups")
                                  .Attr<double>("epsilon")
                                  .Attr<bool>("rectify"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(vrn_norm_backward, BackwardImpl,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .Arg<Floats>()
                                  .RemainingArgs()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .Ret<Floats>()
                                  .RemainingRets()
                                  .Attr<int64_t>("groups")
                                  .Attr<bool>("rectify"));
