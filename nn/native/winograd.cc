// The maps of a 3x3 convolution with strides of one by Winograd's minimal filtering F(2x2, 3x3):
// 16 multiplications for four pixels of the result where the definition has 36 (Lavin and Gray
// 2016, "Fast algorithms for convolutional neural networks", section 4.1). In their notation, for a
// 4x4 patch d of the source, a kernel g and the 2x2 pixels y that come of them,
//
//   image    F and T: y = A' [(G g G') * (B' d B)] A, summed over the source's channels, which
//            makes the product in the middle one of matrices for each of its 16 numbers;
//   kernel   W: its adjoint, g = G' [(A y A') * (B' d B)] G, summed over all patches.
//
// All factors in A and B are 0 and ±1, in G also ±1/2, so that results round about as the
// definition's do. Patches go through in blocks that stay in the second-level cache from the source
// to the result. The order of additions depends on shapes, threads and the width of registers,
// never on timing. Channels come in whole vectors.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tiles.h"

namespace vrn {
namespace {

// The numbers of a transformed patch, and the pixels of a result that come of it.
constexpr int kNumbers = 16, kSide = 4, kOut = 2, kTaps = 3;

// Floats of transformed patches that stay in the second-level cache: 512 KiB.
constexpr int64_t kStay = 131072;

// The size of every image of a batch.
struct Picture {
  int64_t height, width, channels;
};

// The patches of a batch, row by row of each image in turn: one for every 2x2 pixels of the result.
struct Patches {
  int64_t down, across;  // in an image

  Patches(int64_t height, int64_t width) : down(Ceil(height, kOut)), across(Ceil(width, kOut)) {}
  int64_t Each() const { return down * across; }

  // Calls f with pointers to the `side` x `side` pixels of a patch, whose first one is `low` pixels
  // before the result's; where the image has no pixel, with `outside`.
  template <int side, typename T, typename F>
  void At(int64_t patch, T* images, const Picture& of, int64_t low_y, int64_t low_x, T* outside,
          const F& f) const {
    T* pixels[side * side];
    const int64_t image = patch / Each(), y = patch % Each() / across * kOut - low_y,
                  x = patch % across * kOut - low_x;
    T* const corner = images + ((image * of.height + y) * of.width + x) * of.channels;
    const bool inside = y >= 0 && x >= 0 && y + side <= of.height && x + side <= of.width;
    for (int64_t i = 0; i < side; ++i)
      for (int64_t j = 0; j < side; ++j)
        pixels[i * side + j] =
            inside || (y + i >= 0 && y + i < of.height && x + j >= 0 && x + j < of.width)
                ? corner + (i * of.width + j) * of.channels
                : outside;
    f(pixels);
  }
};

// One dimension of the transforms.
struct Four {
  Vec a, b, c, d;
};
inline Four Source(Vec a, Vec b, Vec c, Vec d) { return {a - c, b + c, c - b, b - d}; }  // B'
inline Four Weights(Vec a, Vec b, Vec c) {                                              // G
  const Vec sum = 0.5f * (a + c), half = 0.5f * b;
  return {a, sum + half, sum - half, c};
}
inline Four Spread(Vec a, Vec b) { return {a, a + b, a - b, -b}; }  // A

// B' d B of a patch, for `channels` of it, into 16 numbers that lie `pitch` floats apart.
void TransformSource(float* const* pixels, int64_t channel, int64_t channels, float* to,
                     int64_t pitch) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    Four rows[kSide];
    const auto in = [&](int i) { return At<Vec>(pixels[i] + channel + c); };
    for (int j = 0; j < kSide; ++j) rows[j] = Source(in(j), in(4 + j), in(8 + j), in(12 + j));
    const auto out = [&](int row, Vec Four::*at) {
      const Four four = Source(rows[0].*at, rows[1].*at, rows[2].*at, rows[3].*at);
      float* const first = to + row * kSide * pitch + c;
      Put(first, four.a), Put(first + pitch, four.b);
      Put(first + 2 * pitch, four.c), Put(first + 3 * pitch, four.d);
    };
    out(0, &Four::a), out(1, &Four::b), out(2, &Four::c), out(3, &Four::d);
  }
}

// A y A' of 2x2 pixels likewise.
void TransformSpread(float* const* pixels, int64_t channel, int64_t channels, float* to,
                     int64_t pitch) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    const auto in = [&](int i) { return At<Vec>(pixels[i] + channel + c); };
    const Four left = Spread(in(0), in(2)), right = Spread(in(1), in(3));
    const auto out = [&](int row, Vec Four::*at) {
      const Four four = Spread(left.*at, right.*at);
      float* const first = to + row * kSide * pitch + c;
      Put(first, four.a), Put(first + pitch, four.b);
      Put(first + 2 * pitch, four.c), Put(first + 3 * pitch, four.d);
    };
    out(0, &Four::a), out(1, &Four::b), out(2, &Four::c), out(3, &Four::d);
  }
}

// A' m A: the 2x2 pixels of the result, in place of what is there or, to `add`, on top of it.
void TransformResult(const float* from, int64_t pitch, float* const* pixels, int64_t channel,
                     int64_t channels, bool add) {
  for (int64_t c = 0; c < channels; c += kLanes) {
    Vec upper[kSide], lower[kSide];
    for (int j = 0; j < kSide; ++j) {
      const auto in = [&](int i) { return At<Vec>(from + (i * kSide + j) * pitch + c); };
      const Vec one = in(1), two = in(2);
      upper[j] = in(0) + one + two;
      lower[j] = one - two - in(3);
    }
    const auto put = [&](float* to, Vec value) { Put(to, add ? At<Vec>(to) + value : value); };
    const auto out = [&](int i, const Vec* row) {
      put(pixels[i] + channel + c, row[0] + row[1] + row[2]);
      put(pixels[i + 1] + channel + c, row[1] - row[2] - row[3]);
    };
    out(0, upper), out(2, lower);
  }
}

// G g G' of a kernel's taps, which lie `pitch` floats apart, for one channel of the source and
// `width` of the result; the 16 numbers lie `apart` floats apart.
void TransformWeights(const float* taps, int64_t pitch, float* to, int64_t apart, int64_t width) {
  for (int64_t c = 0; c < width; c += kLanes) {
    Four rows[kTaps];
    const auto in = [&](int i) { return At<Vec>(taps + i * pitch + c); };
    for (int j = 0; j < kTaps; ++j) rows[j] = Weights(in(j), in(3 + j), in(6 + j));
    const auto out = [&](int row, Vec Four::*at) {
      const Four four = Weights(rows[0].*at, rows[1].*at, rows[2].*at);
      float* const first = to + row * kSide * apart + c;
      Put(first, four.a), Put(first + apart, four.b);
      Put(first + 2 * apart, four.c), Put(first + 3 * apart, four.d);
    };
    out(0, &Four::a), out(1, &Four::b), out(2, &Four::c), out(3, &Four::d);
  }
}

// Memory of a thread that begins with a line of the cache.
class Scratch {
 public:
  explicit Scratch(int64_t floats) : storage_(floats + kLine) {}
  float* Begin() {
    const auto at = reinterpret_cast<intptr_t>(storage_.data());
    return reinterpret_cast<float*>(Ceil(at, kLine * sizeof(float)) * kLine * sizeof(float));
  }

 private:
  std::vector<float> storage_;
};

// How many patches, of so many floats for each of their 16 numbers, stay in the cache.
int64_t Together(int64_t floats, int64_t patches) {
  const int64_t most = std::max<int64_t>(Height(1), kStay / (kNumbers * floats));
  return std::min(patches, most / Height(1) * Height(1));
}

// Floats from one number of a block of patches to the next: a line more than they take, since
// stores that lie a power of two apart would drive each other out of the cache.
int64_t Pitch(int64_t patches, int64_t width) { return patches * width + kLine; }

// Channels of the source whose weights one task transforms: a line of them lies together in `w`.
constexpr int64_t kTogether = kLine;

// Transformed weights as tiles read them: [block][number][channel of the source][of the block].
void PackWeights(const float* w, float* packed, const Block& block, int64_t begin, int64_t end,
                 int64_t sources, int64_t results, bool transposed) {
  float turned[kTogether * kTaps * kTaps * kBlock];
  for (int64_t t = 0; transposed && t < kTaps * kTaps; ++t) {
    const float* from = w + ((kTaps * kTaps - 1 - t) * results + block.first) * sources;
    for (int64_t r = 0; r < block.valid; ++r, from += sources)
      for (int64_t s = begin; s < end; ++s)
        turned[((s - begin) * kTaps * kTaps + t) * kBlock + r] = from[s];
  }
  float* to = packed + (block.first * kNumbers * sources) + begin * block.valid;
  for (int64_t s = begin; s < end; ++s, to += block.valid) {
    const float* taps = transposed ? turned + (s - begin) * kTaps * kTaps * kBlock
                                   : w + s * results + block.first;
    TransformWeights(taps, transposed ? kBlock : sources * results, to, sources * block.valid,
                     block.valid);
  }
}

// Images `onto` are as in conv.cc.
ffi::Error ImageImpl(ffi::ThreadPool pool, Image source, Image weights, ffi::RemainingArgs onto,
                     Result result, Result packed, ffi::Span<const int64_t> lows, bool transposed) {
  const auto from = source.dimensions(), to = result->dimensions();
  const int64_t images = from[0], channels = from[3], outputs = to[3];
  const int64_t blocks = Ceil(outputs, kBlock);
  if (channels % kLanes || outputs % kLanes ||
      static_cast<int64_t>(packed->element_count()) < kNumbers * channels * outputs)
    return ffi::Error::InvalidArgument("channels are no vectors or the buffer is too small");

  const int64_t groups = Ceil(channels, kTogether);
  Parallel(pool, blocks * groups, [&](int64_t task) {
    const int64_t begin = task % groups * kTogether, end = std::min(begin + kTogether, channels);
    PackWeights(weights.typed_data(), packed->typed_data(), Block(task / groups, outputs), begin,
                end, channels, outputs, transposed);
  });

  const Patches patches(to[1], to[2]);
  const Picture read{from[1], from[2], channels}, written{to[1], to[2], outputs};
  const int64_t low_y = transposed ? kTaps - 1 - lows[0] : lows[0];
  const int64_t low_x = transposed ? kTaps - 1 - lows[1] : lows[1];
  const int64_t shares = std::min(images, 4 * std::max<int64_t>(pool.num_threads(), 1));
  const int64_t widest = std::min(outputs, kBlock);
  Parallel(pool, shares, [&](int64_t share) {
    const int64_t begin = images * share / shares * patches.Each();
    const int64_t end = images * (share + 1) / shares * patches.Each();
    const int64_t together = Together(channels + widest, end - begin);
    const int64_t in_pitch = Pitch(together, channels), out_pitch = Pitch(together, widest);
    Scratch scratch(kNumbers * (in_pitch + out_pitch) + channels + outputs);
    float* const in = scratch.Begin();
    float* const out = in + kNumbers * in_pitch;
    float* const zeros = out + kNumbers * out_pitch;
    float* const waste = zeros + channels;
    for (int64_t first = begin; first < end; first += together) {
      const int64_t count = std::min(together, end - first);
      for (int64_t p = 0; p < count; ++p)
        patches.At<kSide>(first + p, source.typed_data(), read, low_y, low_x, zeros,
                          [&](float* const* pixels) {
                            TransformSource(pixels, 0, channels, in + p * channels, in_pitch);
                          });
      for (int64_t b = 0; b < blocks; ++b) {
        const Block block(b, outputs);
        const float* panel = packed->typed_data() + block.first * kNumbers * channels;
        const int64_t height = Share(count, block.vectors);
        for (int64_t number = 0; number < kNumbers; ++number) {
          const Segment segment{0, number * channels, channels};
          for (int64_t p = 0; p < count; p += height) {
            Pixel tile[Height(1)];
            const int64_t rows = std::min(height, count - p);
            for (int64_t i = 0; i < rows; ++i)
              tile[i] = {in + number * in_pitch + (p + i) * channels,
                         out + number * out_pitch + (p + i) * block.valid};
            WithTile(rows, block.vectors, [&](auto P, auto V) {
              Gather<P, V>(tile, &segment, &segment + 1, panel, block.valid, false);
            });
          }
        }
        for (int64_t p = 0; p < count; ++p)
          patches.At<kOut>(first + p, result->typed_data(), written, 0, 0, waste,
                           [&](float* const* pixels) {
                             TransformResult(out + p * block.valid, out_pitch, pixels, block.first,
                                             block.valid, onto.size() > 0);
                           });
      }
    }
  });
  return ffi::Error::Success();
}

// G' u G of the sums of all parts, for one channel of a chunk of the kernel.
void FinishKernel(const float* sums, int64_t parts, int64_t part, int64_t number, int64_t width,
                  float* w, int64_t tap) {
  const auto back = [](Vec a, Vec b, Vec c, Vec d, Vec* to, int step) {
    const Vec sum = 0.5f * (b + c);
    to[0] = a + sum, to[step] = 0.5f * (b - c), to[2 * step] = sum + d;
  };
  for (int64_t o = 0; o < width; o += kLanes) {
    Vec u[kNumbers];
    for (int n = 0; n < kNumbers; ++n) {
      u[n] = At<Vec>(sums + n * number + o);
      for (int64_t p = 1; p < parts; ++p) u[n] += At<Vec>(sums + p * part + n * number + o);
    }
    Vec rows[kTaps * kSide], taps[kTaps * kTaps];
    for (int j = 0; j < kSide; ++j) back(u[j], u[4 + j], u[8 + j], u[12 + j], rows + j, kSide);
    for (int i = 0; i < kTaps; ++i) {
      const Vec* row = rows + i * kSide;
      back(row[0], row[1], row[2], row[3], taps + i * kTaps, 1);
    }
    for (int t = 0; t < kTaps * kTaps; ++t) Put(w + t * tap + o, taps[t]);
  }
}

ffi::Error KernelImpl(ffi::ThreadPool pool, Image x, Image y, Result w, Result partial,
                      ffi::Span<const int64_t> lows) {
  const auto in = x.dimensions(), out = y.dimensions();
  const int64_t channels = in[3], outputs = out[3], size = kNumbers * channels * outputs;
  const int64_t parts = partial->element_count() / std::max<int64_t>(size, 1);
  if (channels % kLanes || outputs % kLanes || parts < 1)
    return ffi::Error::InvalidArgument("channels are no vectors or the buffer is too small");

  const Patches patches(out[1], out[2]);
  const Picture of_x{in[1], in[2], channels}, of_y{out[1], out[2], outputs};
  const int64_t all = in[0] * patches.Each();
  const int64_t across = Ceil(outputs, kBlock), chunks = Ceil(channels, kBlock) * across;
  // A chunk of the kernel lies together, since rows far apart would drive each other out.
  const auto chunk = [&](const Block& left, const Block& right) {
    return kNumbers * (left.first * outputs + left.valid * right.first);
  };
  Parallel(pool, parts * chunks, [&](int64_t task) {
    const int64_t part = task / chunks;
    const Block left(task % chunks / across, channels), right(task % across, outputs);
    const int64_t begin = all * part / parts, end = all * (part + 1) / parts;
    const int64_t together = Together(left.valid + right.valid, end - begin);
    const int64_t x_pitch = Pitch(together, left.valid), y_pitch = Pitch(together, right.valid);
    Scratch scratch(kNumbers * (x_pitch + y_pitch) + std::max(channels, outputs));
    float* const xs = scratch.Begin();
    float* const ys = xs + kNumbers * x_pitch;
    float* const zeros = ys + kNumbers * y_pitch;
    float* const sums = partial->typed_data() + part * size + chunk(left, right);
    bool add = false;
    for (int64_t first = begin; first < end || !add; first += together, add = true) {
      const int64_t count = std::min(together, end - first);
      for (int64_t p = 0; p < count; ++p) {
        patches.At<kSide>(first + p, x.typed_data(), of_x, lows[0], lows[1], zeros,
                          [&](float* const* pixels) {
                            TransformSource(pixels, left.first, left.valid, xs + p * left.valid,
                                            x_pitch);
                          });
        patches.At<kOut>(first + p, y.typed_data(), of_y, 0, 0, zeros, [&](float* const* pixels) {
          TransformSpread(pixels, right.first, right.valid, ys + p * right.valid, y_pitch);
        });
      }
      const int64_t height = Share(left.valid, right.vectors);
      for (int64_t number = 0; number < kNumbers; ++number) {
        const Run run{xs + number * x_pitch, ys + number * y_pitch};
        for (int64_t c = 0; c < left.valid; c += height)
          WithTile(std::min(height, left.valid - c), right.vectors, [&](auto P, auto V) {
            Scatter<P, V>(&run, &run + 1, count, c, left.valid,
                          sums + (number * left.valid + c) * right.valid, right.valid,
                          right.valid, add);
          });
      }
    }
  });
  Parallel(pool, channels, [&](int64_t c) {
    const Block left(c / kBlock, channels);
    for (int64_t b = 0; b < across; ++b) {
      const Block right(b, outputs);
      FinishKernel(partial->typed_data() + chunk(left, right) + (c - left.first) * right.valid,
                   parts, size, left.valid * right.valid, right.valid,
                   w->typed_data() + c * outputs + right.first, channels * outputs);
    }
  });
  return ffi::Error::Success();
}

}  // namespace
}  // namespace vrn

XLA_FFI_DEFINE_HANDLER_SYMBOL(vrn_winograd_image, vrn::ImageImpl,
                              vrn::ffi::Ffi::Bind()
                                  .Ctx<vrn::ffi::ThreadPool>()
                                  .Arg<vrn::Image>()
                                  .Arg<vrn::Image>()
                                  .RemainingArgs()
                                  .Ret<vrn::Image>()
                                  .Ret<vrn::Image>()
                                  .Attr<vrn::ffi::Span<const int64_t>>("lows")
                                  .Attr<bool>("transposed"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(vrn_winograd_kernel, vrn::KernelImpl,
                              vrn::ffi::Ffi::Bind()
                                  .Ctx<vrn::ffi::ThreadPool>()
                                  .Arg<vrn::Image>()
                                  .Arg<vrn::Image>()
                                  .Ret<vrn::Image>()
                                  .Ret<vrn::Image>()
                                  .Attr<vrn::ffi::Span<const int64_t>>("lows"));
