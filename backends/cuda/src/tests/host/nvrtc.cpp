// NVRTC, by the host's compiler: what it makes is a shared library, which `driver.cpp` takes for machine code.
//
// `IG_HEADER` names the header that stands before every source, and `IG_KERNELS` a directory where what was compiled is
// kept by a hash of its text.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <fstream>
#include <iterator>
#include <string>

#define EXPORT extern "C" __attribute__((visibility("default")))

namespace {
enum Code { SUCCESS = 0, INVALID_INPUT = 3, INVALID_OPTION = 5, COMPILATION = 6, INTERNAL = 11 };
struct Program {
    std::string source, log, image;
};

std::string content(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}
void store(const std::string &path, const std::string &text) { std::ofstream(path, std::ios::binary) << text; }

uint64_t hash(const std::string &text) {
    uint64_t h = 0xcbf29ce484222325;
    for (const unsigned char c : text) h = (h ^ c) * 0x100000001b3;
    return h;
}
}

EXPORT int nvrtcVersion(int *major, int *minor) {
    const int version = getenv("IG_NVRTC_VERSION") ? atoi(getenv("IG_NVRTC_VERSION")) : 130;
    return *major = version / 10, *minor = version % 10, SUCCESS;
}
EXPORT const char *nvrtcGetErrorString(int code) {
    return code == COMPILATION ? "NVRTC_ERROR_COMPILATION" : code == INVALID_OPTION ? "NVRTC_ERROR_INVALID_OPTION" : "NVRTC_ERROR";
}
EXPORT int nvrtcCreateProgram(Program **program, const char *source, const char *, int headers, const char *const *,
                              const char *const *) {
    if (headers) return INVALID_INPUT;
    return *program = new Program{source, "", ""}, SUCCESS;
}
EXPORT int nvrtcDestroyProgram(Program **program) {
    delete *program;
    return *program = nullptr, SUCCESS;
}
EXPORT int nvrtcCompileProgram(Program *program, int count, const char *const *options) {
    if (count < 1 || strcmp(options[0], "--gpu-architecture=sm_90")) {
        program->log = "nvrtc: error: invalid value for --gpu-architecture (-arch)\n";
        return INVALID_OPTION;
    }
    const std::string command = "c++ -std=c++17 -O1 -w -shared -fPIC -ffp-contract=off -fno-strict-aliasing -o ";
    const std::string text = content(getenv("IG_HEADER")) + program->source, directory = getenv("IG_KERNELS");
    char name[32];
    snprintf(name, sizeof name, "/%016llx", (unsigned long long)hash(command + text));
    const std::string kept = directory + name + ".so", own = directory + name + "." + std::to_string(getpid());
    program->image = content(kept);
    if (!program->image.empty()) return SUCCESS;
    store(own + ".cpp", text);
    const int status = system((command + own + " " + own + ".cpp 2> " + own + ".log").c_str());
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        program->image = content(own);
        rename(own.c_str(), kept.c_str());
    } else {
        program->log = content(own + ".log");
    }
    unlink((own + ".cpp").c_str());
    unlink((own + ".log").c_str());
    return program->image.empty() ? COMPILATION : SUCCESS;
}
EXPORT int nvrtcGetProgramLogSize(const Program *program, size_t *bytes) {
    return *bytes = program->log.size() + 1, SUCCESS;
}
EXPORT int nvrtcGetProgramLog(const Program *program, char *to) {
    return memcpy(to, program->log.c_str(), program->log.size() + 1), SUCCESS;
}
EXPORT int nvrtcGetCUBINSize(const Program *program, size_t *bytes) { return *bytes = program->image.size(), SUCCESS; }
EXPORT int nvrtcGetCUBIN(const Program *program, char *to) {
    return memcpy(to, program->image.data(), program->image.size()), SUCCESS;
}
