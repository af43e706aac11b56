// What both ways of convolving are made of: sums of outer products held in registers, a tile of P
// pixels (or P input channels) by V vectors of channels.

#ifndef NN_NATIVE_TILES_H_
#define NN_NATIVE_TILES_H_

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace vrn {

namespace ffi = xla::ffi;
using Image = ffi::Buffer<ffi::F32>;
using Result = ffi::Result<Image>;

// Vectors side by side in a tile, which fills most registers: AVX has half as many as the others.
constexpr int64_t kVectors = kLanes == 8 ? 2 : 4;
constexpr int64_t kBlock = kLanes * kVectors;

// Pixels of a tile that is V vectors wide.
constexpr int Height(int vectors) { return vectors > 2 || kVectors == 2 ? 6 : 12; }

// Floats in a line of the cache.
constexpr int64_t kLine = 16;

// What is done with a number of the result while it is in a register.
struct After {
  const float* bias = nullptr;  // of the first channel: is added, and a leaky ReLU follows
  const float* gate = nullptr;  // a leaky ReLU's result as far from here as the sum from `result`:
  const float* result = nullptr;  // its derivative is multiplied by
  float slope = 1;

  // A vector or a single number, which goes `to` there and belongs to that channel of the block.
  template <typename T>
  T operator()(T sum, const float* to, int64_t channel) const {
    if (bias) {
      sum += At<T>(bias + channel);
      return sum > 0 ? sum : slope * sum;
    }
    if (gate) return At<T>(gate + (to - result)) > 0 ? sum : slope * sum;
    return sum;
  }
};

// The accumulators of a tile, stored to rows of which only `valid` floats exist.
template <int P, int V>
struct Tile {
  Vec sum[P][V];

  void Clear() {
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < V; ++v) sum[p][v] = Vec{};
  }

  // Puts the sums in place of what is there or, to `add`, on top of it, and what comes `after` that.
  // Sums of pieces round less than one long sum.
  template <typename Row>
  void Store(const Row& row, int64_t valid, bool add, const After& after = {}) const {
    for (int p = 0; p < P; ++p)
      for (int v = 0; v < V; ++v) {
        float* to = row(p) + v * kLanes;
        if (valid >= (v + 1) * kLanes) {
          Vec& there = *reinterpret_cast<Vec*>(to);
          there = after.template operator()<Vec>(add ? there + sum[p][v] : sum[p][v], to, v * kLanes);
        } else {
          for (int64_t l = 0; l < kLanes && v * kLanes + l < valid; ++l)
            to[l] = after(add ? to[l] + sum[p][v][l] : sum[p][v][l], to + l, v * kLanes + l);
        }
      }
  }
};

// Numbers that follow each other in the source, and the rows of packed weights that they meet.
struct Segment {
  int64_t source;  // in floats from where the first tap reads
  int64_t row;
  int64_t length;
};

// Where a pixel's sums read and where they are put.
struct Pixel {
  const float* source;
  float* result;
};

// Adds segments [first, last) of P pixels up, V vectors wide.
template <int P, int V>
void Gather(const Pixel* pixels, const Segment* first, const Segment* last, const float* panel,
            int64_t valid, bool add, const After& after = {}) {
  Tile<P, V> tile;
  tile.Clear();
  for (const Segment* segment = first; segment != last; ++segment) {
    const float* source[P];
    for (int p = 0; p < P; ++p) source[p] = pixels[p].source + segment->source;
    const float* w = panel + segment->row * V * kLanes;
    for (int64_t c = 0; c < segment->length; ++c, w += V * kLanes) {
      Vec wide[V];
      for (int v = 0; v < V; ++v) wide[v] = reinterpret_cast<const Vec*>(w)[v];
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const float one = source[p][c];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) tile.sum[p][v] += wide[v] * one;
      }
    }
  }
  tile.Store([&](int p) { return pixels[p].result; }, valid, add, after);
}

// Pixels side by side that a strip meets: where x and the packed y of the first one are.
struct Run {
  const float* x;
  const float* y;
};

// Adds the products of P channels of x and V vectors of y up over all pixels of the runs.
template <int P, int V>
void Scatter(const Run* first, const Run* last, int64_t length, int64_t channel, int64_t step,
             float* w, int64_t outputs, int64_t valid, bool add) {
  Tile<P, V> tile;
  tile.Clear();
  for (const Run* run = first; run != last; ++run) {
    const float* x = run->x + channel;
    const float* y = run->y;
    for (int64_t i = 0; i < length; ++i, x += step, y += V * kLanes) {
      Vec wide[V];
      for (int v = 0; v < V; ++v) wide[v] = reinterpret_cast<const Vec*>(y)[v];
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p) {
        const float one = x[p];
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) tile.sum[p][v] += wide[v] * one;
      }
    }
  }
  tile.Store([&](int p) { return w + p * outputs; }, valid, add);
}

// Calls f with the compile-time constants nearest to the run-time ones.
template <int P, int V, typename F>
void WithHeight(int64_t height, const F& f) {
  if (height == P) {
    f(std::integral_constant<int, P>(), std::integral_constant<int, V>());
  } else if constexpr (P > 1) {
    WithHeight<P - 1, V>(height, f);
  }
}
template <int V = kVectors, typename F>
void WithTile(int64_t height, int64_t vectors, const F& f) {
  if (vectors == V) {
    WithHeight<Height(V), V>(height, f);
  } else if constexpr (V > 1) {
    WithTile<V - 1>(height, vectors, f);
  }
}

// The largest tile height that splits `count` evenly.
inline int64_t Share(int64_t count, int64_t vectors) {
  return Ceil(count, Ceil(count, Height(static_cast<int>(vectors))));
}

// A block of channels of the result: kBlock of them, or what is left.
struct Block {
  int64_t first, valid, vectors;
  Block(int64_t number, int64_t channels)
      : first(number * kBlock),
        valid(std::min(kBlock, channels - first)),
        vectors(Ceil(valid, kLanes)) {}
};

}  // namespace vrn

#endif  // NN_NATIVE_TILES_H_
