/* Where tensors of this process lie on the processor, in torch's own terms (c10::Allocator): one run of addresses, of which pieces are
 * given out from the lowest free place that fits best, and joined again with the free ones beside them.
 *
 * A heap leaves pieces of other sizes behind when each step has another number of tokens, and grows again at a step that is longer, with
 * a fault for each page. Small tensors, and what finds no room here, are the allocator's that was there before.
 */
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <errno.h>
#include <pthread.h>
#include <sys/mman.h>

#include <cstddef>
#include <iterator>
#include <map>
#include <set>
#include <utility>

namespace {

constexpr size_t LEAST = 64 << 10, PAGE = 4096; /* bytes: the smallest piece from here, and what sizes are rounded up to */

/* Never taken apart: tensors may outlive whatever is taken apart when a process ends. */
struct Store {
    c10::Allocator *before;
    char *base;
    size_t reach, top = 0;                        /* bytes that may be given out, and those below which pieces lie */
    std::map<size_t, size_t> taken, open;         /* place to size */
    std::set<std::pair<size_t, size_t>> by_size;  /* size and place of the open ones */

    /* Return a piece of this size, or null where there is no room. */
    void *take(size_t size) {
        auto best = by_size.lower_bound({size, 0});
        if (best == by_size.end()) {
            if (size > reach - top) return nullptr;
            taken.emplace(top, size);
            top += size;
            return base + top - size;
        }
        const auto [whole, place] = *best;
        taken.emplace(place, size);
        close(best);
        if (whole > size) leave(place + size, whole - size);
        return base + place;
    }

    void give(size_t place) {
        auto found = taken.find(place);
        size_t size = found->second;
        taken.erase(found);
        auto after = open.lower_bound(place);
        if (after != open.begin()) {
            const auto [start, length] = *std::prev(after);
            if (start + length == place) {
                close(by_size.find({length, start}));
                place = start;
                size += length;
            }
        }
        if (after != open.end() && after->first == place + size) {
            size += after->second;
            close(by_size.find({after->second, after->first}));
        }
        if (place + size == top)
            top = place;
        else
            leave(place, size);
    }

    void leave(size_t place, size_t size) {
        open.emplace(place, size);
        by_size.emplace(size, place);
    }

    void close(std::set<std::pair<size_t, size_t>>::iterator piece) {
        open.erase(piece->second);
        by_size.erase(piece);
    }
};

Store *store;
pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

struct Held {
    Held() { pthread_mutex_lock(&lock); }
    ~Held() { pthread_mutex_unlock(&lock); }
};

bool is_ours(const void *pointer) {
    const char *place = static_cast<const char *>(pointer);
    return place >= store->base && place < store->base + store->reach;
}

void give(void *pointer) {
    if (!pointer) return;
    if (!is_ours(pointer)) return store->before->raw_deallocate(pointer);
    Held held;
    store->give(static_cast<size_t>(static_cast<char *>(pointer) - store->base));
}

struct Pool final : c10::Allocator {
    c10::DataPtr allocate(size_t bytes) override {
        if (bytes >= LEAST && bytes <= store->reach) {
            Held held;
            if (void *piece = store->take((bytes + PAGE - 1) / PAGE * PAGE))
                return {piece, piece, &give, c10::Device(c10::DeviceType::CPU)};
        }
        void *piece = store->before->raw_allocate(bytes);
        return {piece, piece, &give, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &give; }
    void copy_data(void *to, const void *from, size_t bytes) const override { default_copy_data(to, from, bytes); }
};

} // namespace

/* Returns 0, or errno's value where no such run of addresses can be had. */
extern "C" int pool_tensors(size_t reach) {
    Held held; /* two threads may load their first models at once */
    if (store) return 0;
    void *base = mmap(nullptr, reach, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return errno;
    store = new Store{c10::GetCPUAllocator(), static_cast<char *>(base), reach};
    pthread_atfork([] { pthread_mutex_lock(&lock); }, [] { pthread_mutex_unlock(&lock); }, [] { pthread_mutex_unlock(&lock); });
    c10::SetCPUAllocator(new Pool, 1);
    return 0;
}

/* Bytes below which tensors lie, open pieces among them, and bytes that are taken. */
extern "C" void pool_state(size_t *top, size_t *taken) {
    Held held;
    *top = store->top;
    *taken = store->top;
    for (const auto &[place, size] : store->open) *taken -= size;
}
