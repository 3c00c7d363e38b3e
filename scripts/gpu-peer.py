"""The figures of the example gpu_bench, by PyTorch (eager) on the same device: the same names, the best of several runs.
Products also by cuBLAS, called directly. With --check: small sizes, one run each, on the CPU, and no cuBLAS."""
import ctypes
import sys
import time

import torch
from torch import nn

CHECK = "--check" in sys.argv
DEVICE = "cpu" if CHECK else "cuda"


def best(f, times=1):
    warm, runs, times = (1, 1, 1) if CHECK else (3, 10, times)
    for _ in range(warm):
        f()
    least = float("inf")
    for _ in range(runs):
        if not CHECK:
            torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(times):
            f()
        if not CHECK:
            torch.cuda.synchronize()
        least = min(least, (time.perf_counter() - start) / times)
    return least


def told(name, seconds, work, unit):
    print(f"{name}\t{seconds * 1e3:.4f}\t{work / seconds:.4f}\t{unit}", flush=True)


def tf32(allowed):
    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


class Cublas:
    """The library that PyTorch has loaded, without PyTorch."""

    def __init__(self, names=("libcublas.so.13", "libcublas.so.12"), stream=None):
        for name in names:
            try:
                self.library = ctypes.CDLL(name)
                break
            except OSError:
                pass
        self.handle = ctypes.c_void_p()
        self.call("cublasCreate_v2", ctypes.byref(self.handle))
        stream = torch.cuda.current_stream().cuda_stream if stream is None else stream
        self.call("cublasSetStream_v2", self.handle, ctypes.c_void_p(stream))

    def call(self, function, *arguments):
        status = getattr(self.library, function)(*arguments)
        if status != 0:
            raise RuntimeError(f"{function}: status {status}")

    def matmul(self, a, b, out, tf32):
        """Square matrices, row by row: the library, which goes by columns, is given the transposed product."""
        n = a.shape[0]
        kind = {torch.float32: 0, torch.bfloat16: 14}[a.dtype]
        one, zero = ctypes.c_float(1), ctypes.c_float(0)
        whole, step = ctypes.c_int, ctypes.c_longlong(0)
        matrix = lambda t: (ctypes.c_void_p(t.data_ptr()), whole(kind), whole(n), step)
        self.call("cublasGemmStridedBatchedEx", self.handle, 0, 0, n, n, n, ctypes.byref(one), *matrix(b), *matrix(a),
                  ctypes.byref(zero), *matrix(out), 1, 77 if tf32 else 68, -1)


def products():
    cublas = None if CHECK else Cublas()
    for n, small in ((4096, 32), (8192, 48)):
        size = small if CHECK else n
        for name, dtype, allowed in (("f32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)):
            tf32(allowed)
            a, b = (torch.randn(size, size, device=DEVICE).to(dtype) for _ in range(2))
            work = 2 * size**3 / 1e12
            told(f"matmul {n} {name}", best(lambda: a @ b), work, "TFLOP/s")
            if cublas:
                out = torch.empty_like(a)
                told(f"matmul {n} {name}, cuBLAS", best(lambda: cublas.matmul(a, b, out, allowed)), work, "TFLOP/s")
            bias = torch.randn(size, device=DEVICE).to(dtype)
            linear = lambda: torch.relu(nn.functional.linear(a, b, bias))
            told(f"linear and relu {n} {name}", best(linear), work, "TFLOP/s")
    tf32(False)


def memory():
    count = 1 << 14 if CHECK else 1 << 26
    x, y, z = (torch.randn(count, device=DEVICE) for _ in range(3))
    out = torch.empty_like(x)
    told("copy", best(lambda: out.copy_(x)), 8 * count / 1e12, "TB/s")
    told("a*b+c", best(lambda: torch.addcmul(z, x, y, out=out)), 16 * count / 1e12, "TB/s")
    rows = x.view(-1, 4096)
    told("softmax", best(lambda: torch.softmax(rows, 1)), 8 * count / 1e12, "TB/s")
    told("sum", best(lambda: x.sum()), 4 * count / 1e12, "TB/s")


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        outputs = 4 * width
        self.body = nn.Sequential(
            nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
            nn.Conv2d(width, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.short = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return torch.relu(self.body(x) + self.short(x))


def resnet50():
    blocks = [nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True), nn.MaxPool2d(3, 2, 1)]
    inputs = 64
    for stage, count in enumerate((3, 4, 6, 3)):
        for block in range(count):
            width = 64 << stage
            blocks.append(Bottleneck(inputs, width, 2 if stage > 0 and block == 0 else 1))
            inputs = 4 * width
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, 1000))


def steps(name, net, shape, classes, dtype, times):
    net = net.to(DEVICE, dtype)
    images = torch.randn(shape, device=DEVICE).to(dtype)
    labels = torch.tensor([i * 7 % classes for i in range(shape[0])], device=DEVICE)
    optimizer = torch.optim.SGD(net.parameters(), 0.001, momentum=0.9)

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(images).float(), labels).backward()
        optimizer.step()

    told(f"{name} step", best(step, times), shape[0] / 1e3, "k samples/s")


def training():
    steps("MLP", nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)),
          (64, 784), 10, torch.float32, 100)
    lenet = nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))
    steps("LeNet", lenet, (32, 1, 28, 28), 10, torch.float32, 100)
    shape = (2, 3, 32, 32) if CHECK else (64, 3, 224, 224)
    tf32(True)
    steps("ResNet-50 tf32", resnet50(), shape, 1000, torch.float32, 1)
    tf32(False)
    steps("ResNet-50 bf16", resnet50(), shape, 1000, torch.bfloat16, 1)


if __name__ == "__main__":
    products()
    memory()
    training()
