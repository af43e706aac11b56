// The three maps of a convolution in float32 for CPU, as XLA custom calls.
//
// Images are [N, H, W, C] and kernels [KH, KW, I, O], as in nn/conv.py. Every map is a sum of outer
// products held in registers: a tile of P pixels (or P input channels) by V vectors of channels.
//
//   gather    F and T: a result pixel sums what its taps read from the source. Pixels that meet the
//             same taps go together, so that padding and strides cost nothing: no zero is stored
//             or multiplied.
//   scatter   W: a tap's block of the kernel sums over all pixels that it meets.
//
// The order of additions depends on shapes, threads and the width of registers, never on timing.

#include <algorithm>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "tiles.h"

namespace vrn {
namespace {

// Rows of packed weights that stay in the second-level cache while all pixels pass: 256 KiB.
constexpr int64_t kChunk = 65536 / kBlock;
// Pixels that the filter gradient adds up before it turns to the next block of the kernel.
constexpr int64_t kPixels = 16384 / kBlock;

// Fewer channels than this do not fill a tile.
constexpr int64_t kFew = 8;

// ---------------------------------------------------------------------------------- gather: F, T

// Along one axis: lines of the result that meet the same taps. The first tap reads line `source`,
// each further one the next line. Both are in floats from the beginning of the image or row.
struct Line {
  int64_t source, result;
};
struct Lines {
  std::vector<int64_t> taps;
  std::vector<Line> lines;
};

// The lines of an axis by their taps. F reads x at o s + k - low; T reads y at (i + low - k) / s. A
// line is `pitch` floats long in either.
std::vector<Lines> Axis(int64_t source, int64_t result, int64_t kernel, int64_t stride, int64_t low,
                        bool transposed, Line pitch) {
  std::map<std::pair<int64_t, int64_t>, Lines> groups;
  for (int64_t r = 0; r < result; ++r) {
    Lines line;
    int64_t first = 0;
    for (int64_t i = 0; i < kernel; ++i) {
      const int64_t k = transposed ? kernel - 1 - i : i;
      const int64_t at = transposed ? r + low - k : r * stride + k - low;
      if (transposed && at % stride != 0) continue;
      const int64_t from = transposed ? at / stride : at;
      if (at < 0 || from >= source) continue;
      if (line.taps.empty()) first = from;
      line.taps.push_back(k);
    }
    const auto key = line.taps.empty() ? std::make_pair<int64_t, int64_t>(-1, -1)
                                       : std::make_pair(line.taps.front(), line.taps.back());
    Lines& group = groups.emplace(key, line).first->second;
    group.lines.push_back({first * pitch.source, r * pitch.result});
  }
  std::vector<Lines> all;
  for (auto& group : groups) all.push_back(std::move(group.second));
  return all;
}

// Adds one tap. Taps side by side in both make one segment; none is longer than a chunk.
void Append(std::vector<Segment>& all, int64_t source, int64_t row, int64_t channels) {
  for (int64_t c = 0; c < channels; c += kChunk) {
    const Segment next{source + c, row + c, std::min(kChunk, channels - c)};
    if (!all.empty() && all.back().source + all.back().length == next.source &&
        all.back().row + all.back().length == next.row &&
        all.back().length + next.length <= kChunk) {
      all.back().length += next.length;
    } else {
      all.push_back(next);
    }
  }
}

// The same for one channel of the result, whose weights follow each other as the source does: a
// vector of the source's channels at a time.
template <int P>
void GatherOne(const Pixel* pixels, const Segment* first, const Segment* last, const float* weights,
               int64_t channel, bool add, const After& after) {
  Tile<P, 1> tile;
  tile.Clear();
  float rest[P] = {};
  for (const Segment* segment = first; segment != last; ++segment) {
    const float* const w = weights + segment->row;
    const int64_t whole = segment->length / kLanes * kLanes;
    for (int64_t c = 0; c < whole; c += kLanes) {
      const Vec wide = *reinterpret_cast<const Vec*>(w + c);
#pragma GCC unroll 16
      for (int p = 0; p < P; ++p)
        tile.sum[p][0] +=
            wide * *reinterpret_cast<const Vec*>(pixels[p].source + segment->source + c);
    }
    for (int64_t c = whole; c < segment->length; ++c)
      for (int p = 0; p < P; ++p) rest[p] += w[c] * pixels[p].source[segment->source + c];
  }
  for (int p = 0; p < P; ++p) {
    float sum = rest[p];
    for (int l = 0; l < kLanes; ++l) sum += tile.sum[p][0][l];
    float* const to = pixels[p].result + channel;
    *to = after(add ? *to + sum : sum, to, channel);
  }
}

// Taps side by side that use a number together while it is in a register; 3x3 kernels have as many.
// It takes the registers of AVX-512 or NEON.
constexpr int64_t kTaps = 3;
constexpr bool kShare = kVectors > 2;
// Pixels, and channels of x, of a tile that shares numbers so.
constexpr int kRow = 16, kColumn = 8;

// The same for P pixels side by side and one vector of channels in source and result, when segments
// are rows of kTaps taps: a number that is read once goes to all pixels whose taps meet it.
template <int P>
void GatherRow(const float* source, float* result, int64_t step, const Segment* first,
               const Segment* last, const float* panel, int64_t valid, bool add,
               const After& after) {
  Tile<P, 1> tile;
  tile.Clear();
  for (const Segment* segment = first; segment != last; ++segment) {
    const float* x = source + segment->source;
    const Vec* w = reinterpret_cast<const Vec*>(panel + segment->row * kLanes);
    for (int64_t c = 0; c < kLanes; ++c) {
      Vec tap[kTaps];
      for (int k = 0; k < kTaps; ++k) tap[k] = w[k * kLanes + c];
#pragma GCC unroll 18
      for (int i = 0; i < P + kTaps - 1; ++i) {
        const Vec one = Vec{} + x[i * kLanes + c];
#pragma GCC unroll 3
        for (int k = 0; k < kTaps; ++k)
          if (i >= k && i - k < P) tile.sum[i - k][0] += tap[k] * one;
      }
    }
  }
  tile.Store([&](int p) { return result + p * step; }, valid, add, after);
}

// ------------------------------------------------------------------------------------- scatter: W

// Taps side by side and the columns of y, from `low` on and before `high`, whose reads lie in x.
struct Strip {
  int64_t row, column, taps, low, high;
};

// The strips of a kernel: one for each tap or, to fill a tile when there are few channels, as many
// taps together as meet the same columns.
std::vector<Strip> Strips(ffi::Span<const int64_t> in, ffi::Span<const int64_t> out,
                          ffi::Span<const int64_t> kernel, int64_t stride, int64_t pad,
                          bool together) {
  std::vector<Strip> all;
  for (int64_t row = 0; row < kernel[0]; ++row) {
    if (together) {
      for (const Lines& group : Axis(in[2], out[2], kernel[1], stride, pad, false, {1, 1}))
        if (!group.taps.empty())
          all.push_back({row, group.taps.front(), static_cast<int64_t>(group.taps.size()),
                         group.lines.front().result, group.lines.back().result + 1});
      continue;
    }
    for (int64_t column = 0; column < kernel[1]; ++column) {
      // Columns o of y for which 0 <= o stride + across < W.
      const int64_t across = column - pad;
      const int64_t low = std::max<int64_t>(0, Ceil(-across, stride));
      const int64_t high = across < in[2] ? std::min(out[2], (in[2] - 1 - across) / stride + 1) : 0;
      all.push_back({row, column, 1, low, high});
    }
  }
  return all;
}

// The same for kTaps taps side by side, strides of one and one vector of y, of which a register
// keeps what the next pixels need. Runs are whole rows of x, of `length` pixels, and of y, of
// `outs`; tap k of pixel i of x meets pixel i + pad - k of y.
template <int P>
void ScatterRow(const Run* first, const Run* last, int64_t length, int64_t outs, int64_t pad,
                int64_t channel, int64_t channels, float* w, int64_t outputs, int64_t valid,
                bool add) {
  Tile<P, 1> tile[kTaps];
  for (Tile<P, 1>& one : tile) one.Clear();
  for (const Run* run = first; run != last; ++run) {
    const float* x = run->x + channel;
    const auto y = [&](int64_t at) {
      return at >= 0 && at < outs ? reinterpret_cast<const Vec*>(run->y)[at] : Vec{};
    };
    Vec held[kTaps];  // y as tap k meets it
    for (int k = 1; k < kTaps; ++k) held[k - 1] = y(pad - k);
    for (int64_t i = 0; i < length; ++i, x += channels) {
      for (int k = kTaps - 1; k > 0; --k) held[k] = held[k - 1];
      held[0] = y(i + pad);
#pragma GCC unroll 8
      for (int p = 0; p < P; ++p) {
        const Vec one = Vec{} + x[p];
#pragma GCC unroll 3
        for (int k = 0; k < kTaps; ++k) tile[k].sum[p][0] += held[k] * one;
      }
    }
  }
  for (int k = 0; k < kTaps; ++k)
    tile[k].Store([&](int p) { return w + (k * channels + p) * outputs; }, valid, add);
}

// Weights as the tiles read them: [block][tap][source channel][channel of the block], with the
// taps in the order in which they read the source.
void Pack(const float* w, float* packed, const Block& block, int64_t taps, int64_t sources,
          int64_t results, bool transposed) {
  const int64_t width = block.vectors * kLanes;
  float* to = packed + block.first * taps * sources;
  for (int64_t t = 0; t < taps; ++t, to += sources * width) {
    const float* from = w + (transposed ? taps - 1 - t : t) * sources * results;
    for (int64_t c = 0; c < sources; ++c) {
      std::fill(to + c * width + block.valid, to + (c + 1) * width, 0.0f);
      if (!transposed) std::copy_n(from + c * results + block.first, block.valid, to + c * width);
    }
    if (!transposed) continue;
    for (int64_t c0 = 0; c0 < sources; c0 += kLine)
      for (int64_t r = 0; r < block.valid; ++r)
        for (int64_t c = c0; c < std::min(c0 + kLine, sources); ++c)
          to[c * width + r] = from[(block.first + r) * sources + c];
  }
}

// Weights as `GatherOne` reads them: [channel of the result][tap][source channel].
void PackOne(const float* w, float* packed, int64_t taps, int64_t sources, int64_t results,
             bool transposed) {
  for (int64_t r = 0; r < results; ++r)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t c = 0; c < sources; ++c)
        *packed++ = transposed ? w[((taps - 1 - t) * results + r) * sources + c]
                               : w[(t * sources + c) * results + r];
}

// A third operand is, as `third` says, `onto`: images that lie where the result does, and sums go on
// top of them; `bias`: it is added, and a leaky ReLU of that slope follows; or `gate`: a leaky ReLU's
// result, whose derivative the result is multiplied by.
ffi::Error GatherImpl(ffi::ThreadPool pool, Image source, Image weights, ffi::RemainingArgs more,
                      Result result, Result packed, ffi::Span<const int64_t> strides,
                      ffi::Span<const int64_t> lows, bool transposed, std::string_view third,
                      float slope) {
  const auto from = source.dimensions(), to = result->dimensions(), w = weights.dimensions();
  const int64_t images = from[0], channels = from[3], outputs = to[3], taps = w[0] * w[1];
  const int64_t blocks = Ceil(outputs, kBlock);
  if (static_cast<int64_t>(packed->element_count()) <
      taps * channels * Ceil(outputs, kLanes) * kLanes)
    return ffi::Error::InvalidArgument("the buffer for packed weights is too small");

  if (images == 0) return ffi::Error::Success();

  const bool onto = third == "onto";
  After follows;
  if (third == "bias") follows.bias = more.get<Image>(0)->typed_data();
  if (third == "gate") follows.gate = more.get<Image>(0)->typed_data();
  follows.result = result->typed_data();
  follows.slope = slope;

  const bool single = outputs < kFew && channels >= kLanes;
  if (single)
    PackOne(weights.typed_data(), packed->typed_data(), taps, channels, outputs, transposed);
  Parallel(pool, single ? 0 : blocks, [&](int64_t b) {
    Pack(weights.typed_data(), packed->typed_data(), Block(b, outputs), taps, channels, outputs,
         transposed);
  });

  struct Group {
    const Lines *rows, *columns;
    std::vector<Segment> segments;
  };
  const Line pixel{channels, outputs}, row{from[2] * channels, to[2] * outputs};
  const auto rows = Axis(from[1], to[1], w[0], strides[0], lows[0], transposed, row);
  const auto columns = Axis(from[2], to[2], w[1], strides[1], lows[1], transposed, pixel);
  std::vector<Group> groups;
  for (const Lines& row : rows)
    for (const Lines& column : columns) {
      Group group{&row, &column, {}};
      for (size_t i = 0; i < row.taps.size(); ++i)
        for (size_t j = 0; j < column.taps.size(); ++j) {
          const int64_t source = (static_cast<int64_t>(i) * from[2] + j) * channels;
          const int64_t tap = row.taps[i] * w[1] + column.taps[j];
          Append(group.segments, source, (transposed ? taps - 1 - tap : tap) * channels, channels);
        }
      groups.push_back(std::move(group));
    }

  const int64_t wanted = 4 * std::max<int64_t>(pool.num_threads(), 1);
  const int64_t shares = std::min(images, wanted);
  const int64_t splits = std::min(blocks, Ceil(wanted, shares));
  Parallel(pool, shares * splits, [&](int64_t task) {
    const int64_t share = task / splits, split = task % splits;
    const int64_t begin = images * share / shares, end = images * (share + 1) / shares;
    for (int64_t b = blocks * split / splits; b < blocks * (split + 1) / splits; ++b) {
      const Block block(b, outputs);
      const float* panel = packed->typed_data() + block.first * taps * channels;
      After of_block = follows;
      if (of_block.bias) of_block.bias += block.first;
      for (const Group& group : groups) {
        const auto &down = group.rows->lines, &across = group.columns->lines;
        const int64_t pixels = (end - begin) * down.size() * across.size();
        const int64_t height = Share(pixels, block.vectors);
        const Segment* last = group.segments.data() + group.segments.size();
        const bool rowwise = kShare && !single && block.vectors == 1 && channels == kLanes &&
                             across.size() > 1 &&
                             across[1].source - across[0].source == pixel.source &&
                             across[1].result - across[0].result == pixel.result;
        bool add = onto;
        for (const Segment* segment = group.segments.data(); segment != last || !add; add = true) {
          const Segment* const begun = segment;
          for (int64_t rows = 0; segment != last && rows + segment->length <= kChunk; ++segment)
            rows += segment->length;
          const After after = segment == last ? of_block : After();
          const float* read = source.typed_data() + begin * from[1] * row.source;
          float* written = result->typed_data() + begin * to[1] * row.result + block.first;
          if (rowwise && std::all_of(begun, segment, [](const Segment& one) {
                return one.length == kTaps * kLanes;
              })) {
            const int64_t wide = across.size(), height = Ceil(wide, Ceil(wide, kRow));
            for (int64_t image = begin; image < end; ++image) {
              for (const Line& y : down)
                for (int64_t x = 0; x < wide; x += height)
                  WithHeight<kRow, 1>(std::min(height, wide - x), [&](auto P, auto) {
                    GatherRow<P>(read + y.source + across[x].source,
                                 written + y.result + across[x].result, outputs, begun, segment,
                                 panel, block.valid, add, after);
                  });
              read += from[1] * row.source, written += to[1] * row.result;
            }
            continue;
          }
          size_t x = 0, y = 0;
          for (int64_t left = pixels; left > 0;) {
            Pixel tile[Height(1)];
            const int64_t count = std::min(height, left);
            for (int64_t p = 0; p < count; ++p) {
              tile[p].source = read + down[y].source + across[x].source;
              tile[p].result = written + down[y].result + across[x].result;
              if (++x < across.size()) continue;
              x = 0;
              if (++y < down.size()) continue;
              y = 0, read += from[1] * row.source, written += to[1] * row.result;
            }
            left -= count;
            if (!single) {
              WithTile(count, block.vectors, [&](auto P, auto V) {
                Gather<P, V>(tile, begun, segment, panel, block.valid, add, after);
              });
              continue;
            }
            for (int64_t o = 0; o < outputs; ++o)
              WithHeight<Height(1), 1>(count, [&](auto P, auto) {
                GatherOne<P>(tile, begun, segment, panel + o * taps * channels, o, add, after);
              });
          }
        }
      }
    }
  });
  return ffi::Error::Success();
}

ffi::Error ScatterImpl(ffi::ThreadPool pool, Image x, Image y, Result w, Result partial,
                       ffi::Span<const int64_t> strides, ffi::Span<const int64_t> lows) {
  const auto in = x.dimensions(), out = y.dimensions(), kernel = w->dimensions();
  const int64_t channels = in[3], outputs = out[3], taps = kernel[0] * kernel[1];
  const int64_t size = taps * channels * outputs, blocks = Ceil(outputs, kBlock);
  const int64_t lines = in[0] * out[1];
  if (lines == 0 || out[2] == 0 || size == 0) {
    std::fill_n(w->typed_data(), size, 0.0f);
    return ffi::Error::Success();
  }
  // A small kernel is summed in parts of the images, a large one in parts of the kernel.
  const int64_t parts = std::max<int64_t>(1, partial->element_count() / size);
  const bool join = parts > 1 && channels < kFew;
  const bool rowwise =
      kShare && parts > 1 && !join && outputs <= kLanes && strides[1] == 1 && kernel[1] == kTaps;
  const auto strips = Strips(in, out, kernel, strides[1], lows[1], join);
  const int64_t splits = parts > 1 ? 1 : taps;
  const int64_t together = std::max<int64_t>(1, kPixels / out[2]);
  const bool copied = blocks > 1 || outputs % kLanes != 0;  // else tiles read y where it is

  Parallel(pool, parts * (parts > 1 ? 1 : blocks) * splits, [&](int64_t task) {
    const int64_t part = parts > 1 ? task : 0;
    const int64_t end = lines * (part + 1) / parts;
    const int64_t first_block = parts > 1 ? 0 : task / splits;
    const int64_t last_block = parts > 1 ? blocks : first_block + 1;
    const Strip* first_strip = strips.data() + (parts > 1 ? 0 : task % splits);
    const Strip* last_strip = parts > 1 ? strips.data() + strips.size() : first_strip + 1;
    float* sums = parts > 1 ? partial->typed_data() + part * size : w->typed_data();
    std::vector<float> storage(copied ? together * out[2] * kBlock + kLine : 0);
    float* const copy = reinterpret_cast<float*>(
        Ceil(reinterpret_cast<intptr_t>(storage.data()), kLine * sizeof(float)) * kLine *
        sizeof(float));
    std::vector<Run> runs;
    bool add = join;  // then several strips have a tap
    if (join) std::fill_n(sums, size, 0.0f);
    for (int64_t line = lines * part / parts; line < end; line += together, add = true) {
      const int64_t last = std::min(line + together, end);
      for (int64_t b = first_block; b < last_block; ++b) {
        const Block block(b, outputs);
        const int64_t width = block.vectors * kLanes;
        const float* from = y.typed_data() + line * out[2] * outputs + block.first;
        const float* const panel = copied ? copy : from;
        float* to = copy;
        for (int64_t i = 0; copied && i < (last - line) * out[2]; ++i, from += outputs, to += width)
          std::fill(std::copy_n(from, block.valid, to), to + width, 0.0f);
        // The rows of x that a row of the kernel meets, from these columns of x and y on.
        const auto meet = [&](int64_t down, int64_t column, int64_t low) {
          runs.clear();
          for (int64_t l = line; l < last; ++l) {
            const int64_t row = l % out[1] * strides[0] + down - lows[0];
            if (row < 0 || row >= in[1]) continue;
            runs.push_back(
                {x.typed_data() + ((l / out[1] * in[1] + row) * in[2] + column) * channels,
                 panel + ((l - line) * out[2] + low) * width});
          }
        };
        for (int64_t down = 0; rowwise && down < kernel[0]; ++down) {
          meet(down, 0, 0);
          const int64_t height = Ceil(channels, Ceil(channels, kColumn));
          for (int64_t c = 0; c < channels; c += height)
            WithHeight<kColumn, 1>(std::min(height, channels - c), [&](auto P, auto) {
              ScatterRow<P>(runs.data(), runs.data() + runs.size(), in[2], out[2], lows[1], c,
                            channels, sums + (down * kTaps * channels + c) * outputs, outputs,
                            block.valid, add);
            });
        }
        for (const Strip* strip = first_strip; !rowwise && strip != last_strip; ++strip) {
          runs.clear();
          if (strip->low < strip->high)
            meet(strip->row, strip->low * strides[1] + strip->column - lows[1], strip->low);
          const int64_t numbers = strip->taps * channels;
          const int64_t height = Share(numbers, block.vectors);
          const int64_t tap = strip->row * kernel[1] + strip->column;
          for (int64_t c = 0; c < numbers; c += height) {
            float* tile = sums + (tap * channels + c) * outputs + block.first;
            WithTile(std::min(height, numbers - c), block.vectors, [&](auto P, auto V) {
              Scatter<P, V>(runs.data(), runs.data() + runs.size(), strip->high - strip->low, c,
                            strides[1] * channels, tile, outputs, block.valid, add);
            });
          }
        }
      }
    }
  });

  if (parts > 1) {
    constexpr int64_t kSlice = 32768;
    Parallel(pool, Ceil(size, kSlice), [&](int64_t slice) {
      const int64_t begin = slice * kSlice, end = std::min(begin + kSlice, size);
      float* to = w->typed_data();
      std::copy(partial->typed_data() + begin, partial->typed_data() + end, to + begin);
      for (int64_t part = 1; part < parts; ++part) {
        const float* from = partial->typed_data() + part * size;
        for (int64_t i = begin; i < end; ++i) to[i] += from[i];
      }
    });
  }
  return ffi::Error::Success();
}

}  // namespace
}  // namespace vrn

XLA_FFI_DEFINE_HANDLER_SYMBOL(vrn_conv_gather, vrn::GatherImpl,
                              vrn::ffi::Ffi::Bind()
                                  .Ctx<vrn::ffi::ThreadPool>()
                                  .Arg<vrn::Image>()
                                  .Arg<vrn::Image>()
                                  .RemainingArgs()
                                  .Ret<vrn::Image>()
                                  .Ret<vrn::Image>()
                                  .Attr<vrn::ffi::Span<const int64_t>>("strides")
                                  .Attr<vrn::ffi::Span<const int64_t>>("lows")
                                  .Attr<bool>("transposed")
                                  .Attr<std::string_view>("third")
                                  .Attr<float>("slope"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(vrn_conv_scatter, vrn::ScatterImpl,
                              vrn::ffi::Ffi::Bind()
                                  .Ctx<vrn::ffi::ThreadPool>()
                                  .Arg<vrn::Image>()
                                  .Arg<vrn::Image>()
                                  .Ret<vrn::Image>()
                                  .Ret<vrn::Image>()
                                  .Attr<vrn::ffi::Span<const int64_t>>("strides")
                                  .Attr<vrn::ffi::Span<const int64_t>>("lows"));

extern "C" int64_t vrn_conv_lanes() { return vrn::kLanes; }
