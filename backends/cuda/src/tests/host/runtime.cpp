// Runs the threads of a block as fibers, one block after another. The order of threads changes from barrier to
// barrier, so that a missing one is noticed.
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <vector>

struct ig_axis {
    unsigned int x;
};
extern "C" {
ig_axis ig_thread_index, ig_block_index, ig_block_size;
unsigned char *ig_shared_memory;
void ig_barrier();
void ig_exchange(const void *mine, int bytes, void *all);
int ig_run(void (*body)(const void *), const void *arguments, unsigned int blocks, unsigned int threads,
           unsigned int shared);
}

namespace {
constexpr int WARP = 32, STACK = 1 << 17, SLOT = 64;
enum State { READY, AT_BLOCK, AT_WARP, DONE };

struct Fiber {
    ucontext_t context;
    State state;
    char *stack;
};
std::vector<Fiber> fibers;
std::vector<unsigned char> slots, shared_memory;
ucontext_t scheduler;
void (*current_body)(const void *);
const void *current_arguments;

void enter() {
    current_body(current_arguments);
    fibers[ig_thread_index.x].state = DONE;
}

void wait(State state) {
    Fiber &fiber = fibers[ig_thread_index.x];
    fiber.state = state;
    swapcontext(&fiber.context, &scheduler);
}

// Wakes those whose partners have all come; false where threads wait that nobody can wake.
bool release(unsigned int threads) {
    unsigned int done = 0, at_block = 0;
    bool woken = false;
    for (unsigned int first = 0; first < threads; first += WARP) {
        unsigned int at_warp = 0;
        for (unsigned int i = first; i < first + WARP; i++) {
            done += fibers[i].state == DONE;
            at_block += fibers[i].state == AT_BLOCK;
            at_warp += fibers[i].state == AT_WARP;
        }
        if (at_warp == WARP) {
            for (unsigned int i = first; i < first + WARP; i++) fibers[i].state = READY;
            woken = true;
        }
    }
    if (at_block == threads) {
        for (unsigned int i = 0; i < threads; i++) fibers[i].state = READY;
        woken = true;
    }
    return woken || done == threads;
}
}

void ig_barrier() { wait(AT_BLOCK); }

void ig_exchange(const void *mine, int bytes, void *all) {
    const unsigned int thread = ig_thread_index.x, first = thread / WARP * WARP;
    memcpy(&slots[thread * SLOT], mine, bytes);
    wait(AT_WARP);
    for (int i = 0; i < WARP; i++) memcpy((char *)all + i * bytes, &slots[(first + i) * SLOT], bytes);
    wait(AT_WARP);
}

// 0; 1 where a block has threads that wait for one that is gone, or that waits elsewhere; 2 for what cannot be run.
int ig_run(void (*body)(const void *), const void *arguments, unsigned int blocks, unsigned int threads,
           unsigned int shared) {
    if (threads % WARP != 0 || shared > (48 << 10)) return 2;
    while (fibers.size() < threads) {
        fibers.emplace_back();
        fibers.back().stack = (char *)malloc(STACK);
    }
    slots.resize(threads * SLOT);
    // Aligned, with a margin that tells writes beyond the end.
    shared_memory.assign(shared + 256, 0xa5);
    ig_shared_memory = (unsigned char *)(((size_t)shared_memory.data() + 63) / 64 * 64);
    current_body = body;
    current_arguments = arguments;
    ig_block_size.x = threads;
    for (ig_block_index.x = 0; ig_block_index.x < blocks; ig_block_index.x++) {
        for (unsigned int i = 0; i < threads; i++) {
            Fiber &fiber = fibers[i];
            getcontext(&fiber.context);
            fiber.context.uc_stack.ss_sp = fiber.stack;
            fiber.context.uc_stack.ss_size = STACK;
            fiber.context.uc_link = &scheduler;
            makecontext(&fiber.context, enter, 0);
            fiber.state = READY;
        }
        for (unsigned int round = 0;; round++) {
            unsigned int done = 0;
            for (unsigned int n = 0; n < threads; n++) {
                const unsigned int i = round % 2 ? threads - 1 - n : n;
                if (fibers[i].state == READY) {
                    ig_thread_index.x = i;
                    swapcontext(&scheduler, &fibers[i].context);
                }
                done += fibers[i].state == DONE;
            }
            if (done == threads) break;
            if (!release(threads)) return 1;
        }
        for (unsigned int i = 0; i < 64; i++) {
            if (ig_shared_memory[shared + i] != 0xa5) return 2;
        }
    }
    return 0;
}
