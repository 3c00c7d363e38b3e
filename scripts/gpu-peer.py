"""The figures of the example gpu_bench, by PyTorch on the same device: the same names, milliseconds, best of several runs."""
import torch


def best(f, runs=10):
    for _ in range(3):
        f()
    torch.cuda.synchronize()
    times = []
    for _ in range(runs):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        f()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return min(times)


def told(name, f, work, unit):
    ms = best(f)
    print(f"{name:<28} {ms:10.3f} ms {work / ms / 1e9:10.2f} {unit}")


for n in (4096, 8192):
    for name, dtype, tf32 in (("f32", torch.float32, False), ("tf32", torch.float32, True), ("bf16", torch.bfloat16, False)):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        a, b = (torch.randn(n, n, device="cuda").to(dtype) for _ in range(2))
        told(f"matmul {n} {name}", lambda: a @ b, 2 * n**3, "TFLOP/s")
count = 1 << 26
x, y, z = (torch.randn(count, device="cuda") for _ in range(3))
told("copy", lambda: z.copy_(x), 8 * count, "TB/s")
told("a*b+c", lambda: torch.addcmul(z, x, y), 16 * count, "TB/s")
rows = x.view(-1, 4096)
told("softmax", lambda: torch.softmax(rows, 1), 8 * count, "TB/s")
told("sum", lambda: x.sum(), 4 * count, "TB/s")
