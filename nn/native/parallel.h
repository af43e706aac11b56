// What the compiled files share: vectors of the processor's registers, and a loop over threads.

#ifndef NN_NATIVE_PARALLEL_H_
#define NN_NATIVE_PARALLEL_H_

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <thread>

#include "xla/ffi/api/ffi.h"

namespace vrn {

// Registers: 32 of 16 floats (AVX-512), 16 of 8 (AVX), 32 of 4 (NEON).
#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float)), aligned(4), may_alias));

// One number or a vector of them; a template argument would lose the alignment of Vec.
template <typename T>
T At(const float* p) {
  T value;
  std::memcpy(&value, p, sizeof(T));
  return value;
}
template <typename T>
void Put(float* p, T value) {
  std::memcpy(p, &value, sizeof(T));
}

inline int64_t Ceil(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A number that stays with its thread.
inline int64_t ThreadNumber() {
  static std::atomic<int64_t> threads{0};
  thread_local const int64_t number = threads.fetch_add(1);
  return number;
}

// Runs f(0), ..., f(count - 1) on the threads of the pool and this one. A thread begins with its own
// portion of the numbers, the same in every call, so that it finds in its cache what it made of
// these images in the call before; then it helps the others. It never waits for a task that has not
// begun, so that calls from within the pool cannot block each other.
template <typename F>
void Parallel(xla::ffi::ThreadPool& pool, int64_t count, const F& f) {
  struct alignas(64) Portion {  // in a line of the cache of its own
    std::atomic<int64_t> next;
    int64_t end;
  };
  struct State {
    std::unique_ptr<Portion[]> portions;
    std::atomic<int64_t> done{0};
    std::mutex mutex;
    std::condition_variable finished;
  };
  const int64_t threads = std::min(std::max<int64_t>(pool.num_threads(), 1), count);
  auto state = std::make_shared<State>();
  state->portions.reset(new Portion[threads]);
  for (int64_t t = 0; t < threads; ++t) {
    state->portions[t].next = count * t / threads;
    state->portions[t].end = count * (t + 1) / threads;
  }
  // Whoever comes late finds no number left and never touches f.
  auto work = [state, threads, count, &f] {
    for (int64_t t = 0; t < threads; ++t) {
      Portion& portion = state->portions[(ThreadNumber() + t) % threads];
      for (int64_t i; (i = portion.next.fetch_add(1)) < portion.end;) {
        f(i);
        if (state->done.fetch_add(1) + 1 == count) {
          std::lock_guard<std::mutex> lock(state->mutex);
          state->finished.notify_one();
        }
      }
    }
  };
  for (int64_t t = 1; t < threads; ++t) pool.Schedule(decltype(work)(work));
  work();
  // A thread that sleeps takes as long to wake as a small layer to compute.
  for (int looks = 0; looks < 2000; ++looks) {
    if (state->done.load() == count) return;
    std::this_thread::yield();
  }
  std::unique_lock<std::mutex> lock(state->mutex);
  state->finished.wait(lock, [&] { return state->done.load() == count; });
}

}  // namespace vrn

#endif  // NN_NATIVE_PARALLEL_H_
