// A CUDA driver of two devices that are made of the host: what the backend and `cust` call of it. Kernels are shared
// libraries (`nvrtc.cpp`), which `runtime.cpp` runs.
//
// It is stricter than a real one. Streams do their work as late as they may: when somebody waits, or when another
// stream that is waited for needs it. Those whose numbers are bits of `IG_EAGER` do it as soon as they may instead, so
// that what only happens to be in order shows in either way. Memory is poisoned, has guards, and is not used twice.
// What real drivers forgive (freeing under queued work, a context that ends before what is in it) is a violation, which
// is told on stderr, and counted.
#include <dlfcn.h>
#include <elf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
enum Code {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101, INVALID_IMAGE = 200,
    INVALID_CONTEXT = 201, NO_BINARY = 209, INVALID_HANDLE = 400, ILLEGAL_STATE = 401, NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700, PEER_ENABLED = 704, CONTEXT_DESTROYED = 709, LAUNCH_FAILED = 719, CAPTURE_UNSUPPORTED = 900,
    CAPTURE_INVALIDATED = 901, CAPTURE_ISOLATION = 905, CAPTURED_EVENT = 907, WRONG_THREAD = 908
};
constexpr int DEVICES = 2;
constexpr size_t MEMORY = (size_t)256 << 20, GUARD = 64;
constexpr unsigned char POISON = 0xff, GUARDED = 0x5c, FREED = 0xee;

struct Context {
    int device, users;
    bool alive;
    int broken;
    std::set<Context *> peers;
};
struct Stream;
// The end of what a stream had when an event was recorded.
struct Mark {
    Stream *stream;
    bool reached, captured;
};
using MarkPointer = std::shared_ptr<Mark>;
struct Operation {
    std::function<int()> work;
    MarkPointer awaited, reached;
};
struct Stream {
    Context *context;
    int number;
    std::deque<Operation> queue;
    bool capturing, invalid;
    int mode;
    std::thread::id thread;
    std::vector<Operation> recorded;
};
struct Event {
    Context *context;
    MarkPointer mark;
};
struct Block {
    size_t bytes;
    Context *context;
    bool host;
};
struct Module {
    Context *context;
    void *library;
};
struct Function {
    Module *module;
    int (*start)(const void *, unsigned int, unsigned int, unsigned int);
    unsigned int words;
    std::string name;
};
struct Graph {
    std::vector<Operation> operations;
};

// Of everything there is; handles are never used twice, so that one of something gone is seen.
struct Everything {
    bool initialized = false;
    Context *primary[DEVICES] = {};
    size_t used[DEVICES] = {};
    int to_break[DEVICES] = {};
    std::set<Stream *> streams;
    std::set<Event *> events;
    std::set<Module *> modules;
    std::set<Function *> functions;
    std::set<Graph *> graphs, executables;
    std::map<uintptr_t, Block> blocks;
    int stream_number = 0, violations = 0;
    std::map<std::string, int> calls;
    std::string failing;
    int failing_after = 0, failing_with = 0;
};
// Never destroyed: a library may be called until the process ends.
Everything &all = *new Everything;
std::recursive_mutex &mutex = *new std::recursive_mutex;
thread_local Context *current = nullptr;

void violation(const std::string &what) {
    fprintf(stderr, "violation: %s\n", what.c_str());
    all.violations++;
}

unsigned int eager_streams() {
    static const unsigned int mask = getenv("IG_EAGER") ? (unsigned int)atoi(getenv("IG_EAGER")) : 0;
    return mask;
}

void check_guard(uintptr_t address, const Block &block) {
    for (size_t i = 0; i < GUARD; i++)
        if (((unsigned char *)address)[block.bytes + i] != GUARDED)
            return violation("written beyond an allocation of " + std::to_string(block.bytes) + " bytes");
}

// The allocation that holds all of these bytes.
const Block *block_of(uintptr_t address, size_t bytes) {
    auto after = all.blocks.upper_bound(address);
    if (after == all.blocks.begin()) return nullptr;
    const auto &[base, block] = *--after;
    return address - base <= block.bytes && bytes <= block.bytes - (address - base) ? &block : nullptr;
}
bool on_device(uintptr_t address, size_t bytes, const Context *context) {
    const Block *block = block_of(address, bytes);
    return block && !block->host && block->context == context;
}
// Ordinary memory, or all of it in one pinned allocation.
bool on_host(uintptr_t address, size_t bytes) {
    auto after = all.blocks.upper_bound(address + bytes - 1);
    if (after == all.blocks.begin()) return true;
    const auto &[base, block] = *--after;
    if (address >= base + block.bytes) return true;
    return block.host && block_of(address, bytes);
}

void finish(Stream *stream, Operation &operation) {
    Context *context = stream->context;
    int &to_break = all.to_break[context->device];
    if (operation.work && !context->broken) {
        context->broken = to_break ? to_break : operation.work();
        to_break = 0;
        for (const auto &[address, block] : all.blocks) check_guard(address, block);
    }
    if (operation.reached) operation.reached->reached = true;
}
// Does what the stream has, up to a mark or to its end.
void drain(Stream *stream, const Mark *until = nullptr) {
    while (!stream->queue.empty() && !(until && until->reached)) {
        Operation first = std::move(stream->queue.front());
        stream->queue.pop_front();
        if (first.awaited && !first.awaited->reached) drain(first.awaited->stream, first.awaited.get());
        finish(stream, first);
    }
}
void run_eager_streams() {
    for (bool going_on = true; going_on;) {
        going_on = false;
        for (Stream *stream : all.streams) {
            if (!(eager_streams() >> stream->number & 1) || stream->queue.empty()) continue;
            Operation &first = stream->queue.front();
            if (first.awaited && !first.awaited->reached) continue;
            Operation taken = std::move(first);
            stream->queue.pop_front();
            finish(stream, taken);
            going_on = true;
        }
    }
}
int enqueue(Stream *stream, Operation operation, bool can_be_captured) {
    if (stream->capturing) {
        if (stream->invalid) return CAPTURE_INVALIDATED;
        stream->invalid = !can_be_captured;
        if (!can_be_captured) return CAPTURE_UNSUPPORTED;
        stream->recorded.push_back(std::move(operation));
        return SUCCESS;
    }
    stream->queue.push_back(std::move(operation));
    run_eager_streams();
    return SUCCESS;
}

// What there is in a context, or in all of them that are not broken: there, nothing can be given back.
int count_left(const Context *context) {
    int left = 0;
    const auto count = [&](const char *what, const Context *in) {
        if (in->broken || (context && in != context)) return;
        fprintf(stderr, "left: %s\n", what);
        left++;
    };
    for (const Stream *stream : all.streams) count("a stream", stream->context);
    for (const Event *event : all.events) count("an event", event->context);
    for (const Module *module : all.modules) count("a module", module->context);
    for (const auto &[address, block] : all.blocks) count("memory", block.context);
    return left;
}

int entered(const char *name) {
    all.calls[name]++;
    if (all.failing == name && all.failing_after-- == 0) return all.failing_with;
    return strcmp(name, "cuInit") && strcmp(name, "cuDriverGetVersion") && !all.initialized ? NOT_INITIALIZED : SUCCESS;
}
int usable(const Context *context) {
    return !context ? INVALID_CONTEXT : !context->alive ? CONTEXT_DESTROYED : context->broken;
}
// What may not be called while a capture is under way, unless that is relaxed.
int not_safe_in_captures() {
    for (Stream *stream : all.streams)
        if (stream->capturing && (stream->mode == 0 || (stream->mode == 1 && stream->thread == std::this_thread::get_id()))) {
            stream->invalid = true;
            return CAPTURE_UNSUPPORTED;
        }
    return SUCCESS;
}

#define TRY(expression) do { if (const int code = (expression)) return code; } while (0)
#define CALLED const std::lock_guard<std::recursive_mutex> lock(mutex); TRY(entered(__func__))
#define IN_CONTEXT CALLED; TRY(usable(current))
#define CHECK(condition, code) do { if (!(condition)) return code; } while (0)
#define DEVICE(device) CHECK((device) >= 0 && (device) < DEVICES, INVALID_DEVICE)
#define STREAM(stream) CHECK(all.streams.count(stream) && (stream)->context == current, INVALID_HANDLE)
}

EXPORT int cuInit(unsigned int flags) {
    CALLED;
    CHECK(flags == 0, INVALID_VALUE);
    all.initialized = true;
    return SUCCESS;
}
EXPORT int cuDriverGetVersion(int *version) {
    CALLED;
    *version = getenv("IG_DRIVER_VERSION") ? atoi(getenv("IG_DRIVER_VERSION")) : 13000;
    return SUCCESS;
}
EXPORT int cuGetErrorString(unsigned int code, const char **text) {
    static const std::map<unsigned int, const char *> texts = {
        {2, "out of memory"}, {46, "CUDA-capable device(s) is/are busy or unavailable"},
        {200, "device kernel image is invalid"}, {201, "invalid device context"}, {700, "an illegal memory access was encountered"},
        {701, "too many resources requested for launch"}, {719, "unspecified launch failure"},
        {803, "system has unsupported display driver / cuda driver combination"}, {900, "operation not permitted when stream is capturing"}};
    const auto found = texts.find(code);
    *text = found == texts.end() ? nullptr : found->second;
    return found == texts.end() ? INVALID_VALUE : SUCCESS;
}

EXPORT int cuDeviceGetCount(int *count) {
    CALLED;
    return *count = DEVICES, SUCCESS;
}
EXPORT int cuDeviceGet(int *device, int ordinal) {
    CALLED;
    DEVICE(ordinal);
    return *device = ordinal, SUCCESS;
}
EXPORT int cuDeviceGetAttribute(int *value, int attribute, int device) {
    CALLED;
    DEVICE(device);
    CHECK(attribute == 75 || attribute == 76, INVALID_VALUE);
    const int capability = getenv("IG_CAPABILITY") ? atoi(getenv("IG_CAPABILITY")) : 90;
    return *value = attribute == 75 ? capability / 10 : capability % 10, SUCCESS;
}
EXPORT int cuDeviceTotalMem_v2(size_t *bytes, int device) {
    CALLED;
    DEVICE(device);
    return *bytes = MEMORY, SUCCESS;
}
EXPORT int cuDeviceCanAccessPeer(int *can, int device, int other) {
    CALLED;
    DEVICE(device);
    DEVICE(other);
    return *can = device != other, SUCCESS;
}

EXPORT int cuDevicePrimaryCtxRetain(Context **context, int device) {
    CALLED;
    DEVICE(device);
    if (!all.primary[device]) all.primary[device] = new Context{device, 0, true, 0, {}};
    all.primary[device]->users++;
    return *context = all.primary[device], SUCCESS;
}
EXPORT int cuDevicePrimaryCtxRelease_v2(int device) {
    CALLED;
    DEVICE(device);
    Context *context = all.primary[device];
    CHECK(context, INVALID_CONTEXT);
    if (--context->users) return SUCCESS;
    if (const int left = count_left(context)) {
        violation("a context ends before what is in it: " + std::to_string(left));
    }
    context->alive = false;
    all.primary[device] = nullptr;
    return SUCCESS;
}
EXPORT int cuCtxSetCurrent(Context *context) {
    CALLED;
    CHECK(!context || context->alive, CONTEXT_DESTROYED);
    return current = context, SUCCESS;
}
EXPORT int cuCtxGetCurrent(Context **context) {
    CALLED;
    return *context = current, SUCCESS;
}
EXPORT int cuCtxEnablePeerAccess(Context *other, unsigned int flags) {
    IN_CONTEXT;
    TRY(usable(other));
    CHECK(flags == 0 && other != current, INVALID_VALUE);
    return current->peers.insert(other).second ? SUCCESS : PEER_ENABLED;
}

static int allocate(uintptr_t *address, size_t bytes, bool host) {
    TRY(not_safe_in_captures());
    CHECK(bytes, INVALID_VALUE);
    size_t &used = all.used[current->device];
    CHECK(host || bytes <= MEMORY - used, OUT_OF_MEMORY);
    void *memory;
    CHECK(!posix_memalign(&memory, host ? 4096 : 512, bytes + GUARD), OUT_OF_MEMORY);
    if (!host) used += bytes;
    memset(memory, POISON, bytes);
    memset((char *)memory + bytes, GUARDED, GUARD);
    all.blocks[(uintptr_t)memory] = {bytes, current, host};
    return *address = (uintptr_t)memory, SUCCESS;
}
static int give_back(uintptr_t address, bool host) {
    TRY(not_safe_in_captures());
    const auto found = all.blocks.find(address);
    if (found == all.blocks.end() || found->second.host != host) {
        violation("what is freed was not allocated, or is free already");
        return INVALID_VALUE;
    }
    const Block block = found->second;
    for (Stream *stream : all.streams)
        if (stream->context == block.context && !stream->queue.empty()) violation("memory is freed under queued work");
    check_guard(address, block);
    memset((void *)address, FREED, block.bytes);
    if (!host) all.used[block.context->device] -= block.bytes;
    all.blocks.erase(found);
    // Its address is not used again, its pages may be.
    const uintptr_t page = 4096, from = (address + page - 1) / page * page, to = (address + block.bytes) / page * page;
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
    return SUCCESS;
}
EXPORT int cuMemAlloc_v2(uintptr_t *address, size_t bytes) {
    IN_CONTEXT;
    return allocate(address, bytes, false);
}
EXPORT int cuMemFree_v2(uintptr_t address) {
    IN_CONTEXT;
    return give_back(address, false);
}
EXPORT int cuMemHostAlloc(uintptr_t *address, size_t bytes, unsigned int flags) {
    IN_CONTEXT;
    CHECK(flags < 8, INVALID_VALUE);
    return allocate(address, bytes, true);
}
EXPORT int cuMemFreeHost(uintptr_t address) {
    IN_CONTEXT;
    return give_back(address, true);
}

// Copies when the stream comes to it, as long as `valid` is true at both times.
static int copy(uintptr_t to, uintptr_t from, size_t bytes, Stream *stream, std::function<bool()> valid, bool captured) {
    STREAM(stream);
    if (!bytes) return SUCCESS;
    CHECK(valid(), INVALID_VALUE);
    const auto work = [=] {
        if (!valid()) return violation("a copy from or to memory that is free"), (int)ILLEGAL_ADDRESS;
        memcpy((void *)to, (const void *)from, bytes);
        return (int)SUCCESS;
    };
    return enqueue(stream, {work, nullptr, nullptr}, captured);
}
EXPORT int cuMemcpyHtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, Stream *stream) {
    IN_CONTEXT;
    const auto valid = [=, context = current] { return on_device(to, bytes, context) && on_host(from, bytes); };
    return copy(to, from, bytes, stream, valid, false);
}
EXPORT int cuMemcpyDtoHAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, Stream *stream) {
    IN_CONTEXT;
    const auto valid = [=, context = current] { return on_device(from, bytes, context) && on_host(to, bytes); };
    return copy(to, from, bytes, stream, valid, false);
}
EXPORT int cuMemcpyDtoDAsync_v2(uintptr_t to, uintptr_t from, size_t bytes, Stream *stream) {
    IN_CONTEXT;
    const auto valid = [=, here = current] { return on_device(to, bytes, here) && on_device(from, bytes, here); };
    return copy(to, from, bytes, stream, valid, true);
}
EXPORT int cuMemcpyPeerAsync(uintptr_t to, Context *ours, uintptr_t from, Context *theirs, size_t bytes, Stream *stream) {
    IN_CONTEXT;
    TRY(usable(ours));
    TRY(usable(theirs));
    const auto valid = [=] { return on_device(to, bytes, ours) && on_device(from, bytes, theirs); };
    return copy(to, from, bytes, stream, valid, false);
}

EXPORT int cuStreamCreateWithPriority(Stream **stream, unsigned int flags, int priority) {
    IN_CONTEXT;
    CHECK(flags <= 1 && priority <= 0, INVALID_VALUE);
    if (flags == 0) violation("a stream that waits for the default one");
    *stream = new Stream{current, all.stream_number++, {}, false, false, 0, {}, {}};
    return all.streams.insert(*stream), SUCCESS;
}
EXPORT int cuStreamDestroy_v2(Stream *stream) {
    IN_CONTEXT;
    CHECK(all.streams.count(stream), INVALID_HANDLE);
    if (stream->capturing) violation("a stream is destroyed in a capture");
    drain(stream);
    return all.streams.erase(stream), SUCCESS;
}
EXPORT int cuStreamSynchronize(Stream *stream) {
    IN_CONTEXT;
    CHECK(all.streams.count(stream), INVALID_HANDLE);
    if (stream->capturing) return stream->invalid = true, CAPTURE_UNSUPPORTED;
    drain(stream);
    return stream->context->broken;
}
EXPORT int cuStreamWaitEvent(Stream *stream, Event *event, unsigned int flags) {
    IN_CONTEXT;
    CHECK(all.streams.count(stream) && all.events.count(event) && flags == 0, INVALID_HANDLE);
    if (!event->mark) return SUCCESS;
    if (stream->capturing != event->mark->captured) {
        violation(stream->capturing ? "a capture waits for what is not of it" : "a stream is drawn into a capture");
        stream->invalid = true;
        return CAPTURE_ISOLATION;
    }
    return enqueue(stream, {nullptr, event->mark, nullptr}, true);
}

EXPORT int cuEventCreate(Event **event, unsigned int flags) {
    IN_CONTEXT;
    CHECK(flags < 8, INVALID_VALUE);
    *event = new Event{current, nullptr};
    return all.events.insert(*event), SUCCESS;
}
EXPORT int cuEventDestroy_v2(Event *event) {
    IN_CONTEXT;
    CHECK(all.events.erase(event), INVALID_HANDLE);
    return SUCCESS;
}
EXPORT int cuEventRecord(Event *event, Stream *stream) {
    IN_CONTEXT;
    CHECK(all.events.count(event) && all.streams.count(stream), INVALID_HANDLE);
    CHECK(event->context == stream->context, INVALID_HANDLE);
    event->mark = std::make_shared<Mark>(Mark{stream, false, stream->capturing});
    return enqueue(stream, {nullptr, nullptr, event->mark}, true);
}
EXPORT int cuEventSynchronize(Event *event) {
    IN_CONTEXT;
    CHECK(all.events.count(event), INVALID_HANDLE);
    if (!event->mark) return SUCCESS;
    if (event->mark->captured) return CAPTURED_EVENT;
    if (!event->mark->reached) drain(event->mark->stream, event->mark.get());
    return event->context->broken;
}

// The image is an ELF file, whose table of sections ends it.
EXPORT int cuModuleLoadDataEx(Module **module, const void *image, unsigned int options, int *, void **) {
    IN_CONTEXT;
    TRY(not_safe_in_captures());
    CHECK(options == 0, INVALID_VALUE);
    const Elf64_Ehdr *head = (const Elf64_Ehdr *)image;
    CHECK(!memcmp(image, ELFMAG, SELFMAG) && head->e_ident[EI_CLASS] == ELFCLASS64, INVALID_IMAGE);
    const size_t bytes = head->e_shoff + (size_t)head->e_shnum * head->e_shentsize;
    // By a name that no other has: `dlopen` knows libraries by their names.
    static int number = 0;
    const char *directory = getenv("IG_KERNELS");
    const std::string path = directory + ("/" + std::to_string(getpid())) + "-" + std::to_string(number++) + ".loaded";
    std::ofstream(path, std::ios::binary).write((const char *)image, (std::streamsize)bytes);
    void *library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    unlink(path.c_str());
    CHECK(library, NO_BINARY);
    *module = new Module{current, library};
    return all.modules.insert(*module), SUCCESS;
}
EXPORT int cuModuleUnload(Module *module) {
    IN_CONTEXT;
    CHECK(all.modules.count(module) && module->context == current, INVALID_HANDLE);
    for (auto f = all.functions.begin(); f != all.functions.end();) f = (*f)->module == module ? all.functions.erase(f) : ++f;
    return all.modules.erase(module), SUCCESS;
}
EXPORT int cuModuleGetFunction(Function **function, Module *module, const char *name) {
    IN_CONTEXT;
    CHECK(all.modules.count(module) && module->context == current, INVALID_HANDLE);
    const auto find = [&](const char *what) { return dlsym(module->library, (std::string(what) + name).c_str()); };
    void *start = find("ig_start_"), *words = find("ig_words_");
    CHECK(start && words, NOT_FOUND);
    *function = new Function{module, (decltype(Function::start))start, ((unsigned int (*)())words)(), name};
    return all.functions.insert(*function), SUCCESS;
}
EXPORT int cuLaunchKernel(Function *function, unsigned int x, unsigned int y, unsigned int z, unsigned int threads,
                          unsigned int threads_y, unsigned int threads_z, unsigned int shared, Stream *stream,
                          void **arguments, void **extra) {
    IN_CONTEXT;
    STREAM(stream);
    CHECK(all.functions.count(function) && function->module->context == current, INVALID_HANDLE);
    CHECK(x >= 1 && x <= 0x7fffffff && y == 1 && z == 1 && threads_y == 1 && threads_z == 1, INVALID_VALUE);
    CHECK(threads >= 1 && threads <= 1024 && shared <= (48 << 10) && arguments && !extra, INVALID_VALUE);
    const uint64_t *from = (const uint64_t *)arguments[0];
    const std::vector<uint64_t> words(from, from + function->words);
    const auto work = [=] {
        const int code = function->start(words.data(), x, threads, shared);
        if (code) violation("kernel " + function->name + " ends with " + std::to_string(code));
        return code ? (int)LAUNCH_FAILED : (int)SUCCESS;
    };
    return enqueue(stream, {work, nullptr, nullptr}, true);
}

EXPORT int cuStreamBeginCapture_v2(Stream *stream, int mode) {
    IN_CONTEXT;
    STREAM(stream);
    CHECK(mode >= 0 && mode <= 2, INVALID_VALUE);
    CHECK(!stream->capturing, ILLEGAL_STATE);
    stream->capturing = true;
    stream->invalid = false;
    stream->mode = mode;
    stream->thread = std::this_thread::get_id();
    stream->recorded.clear();
    return SUCCESS;
}
EXPORT int cuStreamEndCapture(Stream *stream, Graph **graph) {
    IN_CONTEXT;
    CHECK(all.streams.count(stream), INVALID_HANDLE);
    CHECK(stream->capturing, ILLEGAL_STATE);
    CHECK(stream->mode == 2 || stream->thread == std::this_thread::get_id(), WRONG_THREAD);
    stream->capturing = false;
    *graph = nullptr;
    CHECK(!stream->invalid, CAPTURE_INVALIDATED);
    *graph = new Graph{std::move(stream->recorded)};
    return all.graphs.insert(*graph), SUCCESS;
}
EXPORT int cuGraphInstantiateWithFlags(Graph **executable, Graph *graph, unsigned long long flags) {
    IN_CONTEXT;
    CHECK(all.graphs.count(graph) && flags == 0, INVALID_VALUE);
    *executable = new Graph(*graph);
    return all.executables.insert(*executable), SUCCESS;
}
EXPORT int cuGraphDestroy(Graph *graph) {
    IN_CONTEXT;
    CHECK(all.graphs.erase(graph), INVALID_VALUE);
    return SUCCESS;
}
EXPORT int cuGraphExecDestroy(Graph *executable) {
    IN_CONTEXT;
    CHECK(all.executables.erase(executable), INVALID_VALUE);
    return SUCCESS;
}
EXPORT int cuGraphLaunch(Graph *executable, Stream *stream) {
    IN_CONTEXT;
    STREAM(stream);
    CHECK(all.executables.count(executable), INVALID_VALUE);
    if (stream->capturing) return stream->invalid = true, CAPTURE_UNSUPPORTED;
    for (const Operation &operation : executable->operations) TRY(enqueue(stream, operation, false));
    return SUCCESS;
}

// What tests ask.

// How often a function was called; of no name: how often any was.
EXPORT int ig_calls(const char *name) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    int sum = 0;
    for (const auto &[called, times] : all.calls) sum += *name && called != name ? 0 : times;
    return sum;
}
// The function of that name fails once, after some calls that do not.
EXPORT void ig_fail(const char *name, int after, int code) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    all.failing = name, all.failing_after = after, all.failing_with = code;
}
// The next work of a device ends with an error, which stays.
EXPORT void ig_break(int device, int code) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    all.to_break[device] = code;
}
// Work that waits to be done.
EXPORT int ig_queued(void) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    int queued = 0;
    for (const Stream *stream : all.streams)
        for (const Operation &operation : stream->queue) queued += operation.work != nullptr;
    return queued;
}
EXPORT int ig_violations(void) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    return all.violations;
}
// What was not given back, contexts and graphs too.
EXPORT int ig_left(void) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    int left = count_left(nullptr) + (int)(all.graphs.size() + all.executables.size());
    for (const Context *context : all.primary) left += context && !context->broken;
    return left;
}
