#!/usr/bin/env python3
"""Writes the golden files of this folder that are marked as made by this script in README.md, with MXNet 1.9.1 and
numpy 1.23.5 (`pip install mxnet==1.9.1 numpy==1.23.5`, Python 3.8 to 3.11). It reads `params/cnn_bn.params`,
which is given."""
import json, os
import numpy as np
import mxnet as mx
from mxnet import autograd, gluon, nd
from mxnet.gluon import nn, rnn

HERE = os.path.dirname(os.path.abspath(__file__))
P, T = os.path.join(HERE, "params"), os.path.join(HERE, "traces")


def short(data):
    """Nine digits tell every float32."""
    if isinstance(data, float):
        return float("%.9g" % data)
    if isinstance(data, dict):
        return {k: short(v) for k, v in data.items()}
    return [short(v) for v in data] if isinstance(data, (list, tuple)) else data


def write(path, data):
    """One entry a line."""
    entries = ["%s: %s" % (json.dumps(k), json.dumps(short(v))) for k, v in data.items()] if isinstance(data, dict) else [json.dumps(short(v)) for v in data]
    ends = "{}" if isinstance(data, dict) else "[]"
    open(path, "w").write(ends[0] + "\n" + ",\n".join(entries) + "\n" + ends[1] + "\n")


# Networks: parameters, an input, and the output in inference mode.
class Residual(nn.Block):
    def __init__(self, **kw):
        super().__init__(**kw)
        self.scale = self.params.get("scale", shape=(1,), init=mx.init.Constant(.5))
        self.conv1 = nn.Conv2D(4, 3, padding=1)
        self.bn = nn.BatchNorm()
        self.body = nn.Sequential()
        self.body.add(nn.Conv2D(4, 3, padding=1, activation="relu"), nn.BatchNorm(scale=False))
        self.fc = nn.Dense(3)

    def forward(self, x):
        y = nd.relu(self.bn(self.conv1(x)))
        return self.fc(nd.relu(y + self.scale.data() * self.body(y)))


def sequential(*layers):
    net = nn.Sequential()
    net.add(*layers)
    return net


def shared():
    second = nn.Dense(8, activation="relu")
    return sequential(nn.Dense(8, activation="relu"), second, nn.Dense(8, activation="relu", params=second.params), nn.Dense(10))


def cnn_bn(kind=nn.Sequential):
    net = kind()
    net.add(nn.Conv2D(8, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"), nn.MaxPool2D(),
            nn.Conv2D(12, 3, strides=2), nn.BatchNorm(scale=False), nn.Activation("relu"), nn.GlobalAvgPool2D(), nn.Flatten(),
            nn.Dense(16), nn.BatchNorm(), nn.Dense(5))
    return net


class Sequence(nn.Block):
    def __init__(self, **kw):
        super().__init__(**kw)
        self.embed = nn.Embedding(12, 6)
        self.lstm = rnn.LSTM(7, num_layers=2, bidirectional=True)
        self.out = nn.Dense(12, flatten=False)

    def forward(self, x):
        return self.out(self.lstm(self.embed(x)))


def save(name, net, shape, rng, ids=None, **kw):
    x = nd.array(rng.randint(0, ids, shape) if ids else rng.randn(*shape))
    net.initialize(mx.init.Normal(.3))
    with autograd.train_mode():
        net(x)
    for p in net.collect_params(".*(gamma|beta|running|bias)").values():
        p.set_data(nd.array(rng.rand(*p.shape) + .5))
    out = net(x)
    path = os.path.join(P, name + ".params")
    net.save_parameters(path, **kw)
    keys = list(nd.load(path))
    np.save(os.path.join(P, name + "_input.npy"), x.asnumpy())
    np.save(os.path.join(P, name + "_output.npy"), out.asnumpy())
    return {"file_keys_in_order": keys, "repr": repr(net), "collect_params": list(net.collect_params())}


def params():
    index = {}
    rng = np.random.RandomState(3)
    mx.random.seed(3)
    index["lenet_maxpool"] = save("lenet_maxpool", sequential(
        nn.Conv2D(4, 3, activation="relu"), nn.MaxPool2D(2, 2), nn.Conv2D(6, 3, activation="relu"), nn.MaxPool2D(2, 2), nn.Dense(12, activation="relu"), nn.Dense(10)), (2, 1, 14, 14), rng)
    index["shared_dedup"] = save("shared_dedup", shared(), (3, 20), rng, deduplicate=True)
    index["residual_block"] = save("residual_block", Residual(), (2, 3, 6, 6), rng)
    index["lstm_seq"] = save("lstm_seq", sequential(rnn.LSTM(7, num_layers=2, bidirectional=True), nn.Dense(5, flatten=False)), (4, 2, 6), rng)
    index["gru_seq"] = save("gru_seq", sequential(nn.Embedding(12, 6), rnn.GRU(7), nn.Dense(12, flatten=False)), (4, 2), rng, ids=12)
    # The weights of the given cnn_bn in the two other forms.
    with mx.name.NameManager():
        net = cnn_bn(nn.HybridSequential)
        net.load_parameters(os.path.join(P, "cnn_bn.params"))
        net.collect_params().save(os.path.join(P, "cnn_bn_paramdict.params"))
        net.hybridize()
        net(nd.array(np.load(os.path.join(P, "cnn_bn_input.npy"))))
        net.export(os.path.join(P, "cnn_bn_export"))
        os.remove(os.path.join(P, "cnn_bn_export-symbol.json"))
    for name in ("cnn_bn_paramdict", "cnn_bn_export-0000"):
        index[name] = {"file_keys_in_order": list(nd.load(os.path.join(P, name + ".params")))}
    write(os.path.join(P, "generated.json"), index)


UPDATES = [
    ("sgd", dict(learning_rate=.1, clip_gradient=.4)),
    ("sgd", dict(learning_rate=.1, clip_gradient=.4, wd=.05, momentum=.5)),
    ("nag", dict(learning_rate=.1, momentum=.9, wd=.01)),
    ("nag", dict(learning_rate=.1, momentum=.9, wd=.05, clip_gradient=.4)),
    ("nag", dict(learning_rate=.1, wd=.05)),
    ("adam", dict(learning_rate=.01)),
    ("adam", dict(learning_rate=.01, wd=.05, clip_gradient=.4, beta1=.8, beta2=.9, epsilon=1e-3)),
    ("adamax", dict(learning_rate=.002)),
    ("adamax", dict(learning_rate=.01, wd=.05, clip_gradient=.4, beta1=.8, beta2=.9)),
    ("nadam", dict(learning_rate=.01)),
    ("nadam", dict(learning_rate=.01, wd=.05, clip_gradient=.4, beta1=.8, beta2=.9, epsilon=1e-3, schedule_decay=.1)),
    ("adagrad", dict(learning_rate=.1)),
    ("adagrad", dict(learning_rate=.1, wd=.05, clip_gradient=.4, eps=1e-3)),
    ("rmsprop", dict(learning_rate=.01, wd=.01)),
    ("rmsprop", dict(learning_rate=.01, wd=.05, clip_gradient=.4, gamma1=.8, epsilon=1e-3)),
    ("rmsprop", dict(learning_rate=.01, centered=True)),
    ("rmsprop", dict(learning_rate=.01, wd=.05, clip_gradient=.4, gamma1=.8, gamma2=.7, epsilon=1e-3, centered=True)),
    ("adadelta", dict()),
    ("adadelta", dict(wd=.05, clip_gradient=.4, rho=.8, epsilon=1e-3)),
    ("ftrl", dict(learning_rate=.1)),
    ("ftrl", dict(learning_rate=.1, lamda1=.1, beta=.5, wd=.05, clip_gradient=.4)),
    ("signum", dict(learning_rate=.01, momentum=.9)),
    ("signum", dict(learning_rate=.01, momentum=.5, wd=.05, clip_gradient=.4, wd_lh=.02)),
    ("signum", dict(learning_rate=.01, momentum=0., wd=.05)),
    ("lamb", dict(learning_rate=.01)),
    ("lamb", dict(learning_rate=.01, wd=.05, clip_gradient=.4, bias_correction=False)),
    ("lamb", dict(learning_rate=.01, wd=.05, beta1=.8, beta2=.9, epsilon=1e-3, lower_bound=.5, upper_bound=.9)),
]


def updates():
    rng, out = np.random.RandomState(11), []
    for kind, args in UPDATES:
        optimizer = mx.optimizer.create(kind, rescale_grad=.5, **args)
        updater = mx.optimizer.get_updater(optimizer)
        weight = nd.array(np.round(rng.randn(6), 3))
        entry = {"optimizer": kind, "args": args, "rescale_grad": .5, "weight": weight.asnumpy().tolist(), "gradients": [], "weights": []}
        for _ in range(8):
            gradient = nd.array(np.round(rng.randn(6), 3))
            entry["gradients"].append(gradient.asnumpy().tolist())
            updater(0, gradient, weight)
            entry["weights"].append(weight.asnumpy().tolist())
        out.append(entry)
    return out



def scheduler(spec, **kw):
    (name, options), = spec.items()
    return getattr(mx.lr_scheduler, name)(**options, **kw)


def traces():
    index = {}
    # A network with batch normalization: running statistics are part of the result.
    rng = np.random.RandomState(5)
    mx.random.seed(5)
    x, y = nd.array(rng.randn(24, 3, 8, 8)), nd.array(rng.randint(0, 5, 24))
    net = cnn_bn()
    net.initialize(mx.init.Xavier())
    net(x)
    save = lambda name: net.save_parameters(os.path.join(T, "cnn_bn_%s.params" % name))
    save("init")
    args = dict(learning_rate=.05, momentum=.9, wd=1e-4)
    trainer, loss, losses = gluon.Trainer(net.collect_params(), "sgd", args), gluon.loss.SoftmaxCrossEntropyLoss(), []
    for step in range(12):
        o = 8 * (step % 3)
        with autograd.record():
            l = loss(net(x[o:o + 8]), y[o:o + 8])
        losses.append(l.mean().asscalar())
        l.backward()
        trainer.step(8)
    save("final")
    for name, data in (("x", x.asnumpy()), ("y", y.asnumpy()), ("loss", np.array(losses, "f4")), ("final_output", net(x).asnumpy())):
        np.save(os.path.join(T, "cnn_bn_%s.npy" % name), data)
    index["cnn_bn"] = {"optimizer": "sgd", "args": args, "batch": 8, "steps": 12}
    write(os.path.join(T, "generated.json"), index)


SCHEDULES = [
    {"FactorScheduler": dict(step=5, factor=.5, base_lr=.8)},
    {"FactorScheduler": dict(step=3, factor=.5, base_lr=.8, stop_factor_lr=.15)},
    {"FactorScheduler": dict(step=7, factor=.5, base_lr=.8, warmup_steps=4, warmup_begin_lr=.1)},
    {"MultiFactorScheduler": dict(step=[3, 9, 10], factor=.3, base_lr=.8)},
    {"MultiFactorScheduler": dict(step=[6, 9], factor=.3, base_lr=.8, warmup_steps=3)},
    {"PolyScheduler": dict(max_update=20, base_lr=.8, pwr=2, final_lr=.1)},
    {"PolyScheduler": dict(max_update=20, base_lr=.8, pwr=1, final_lr=0, warmup_steps=5, warmup_begin_lr=.2)},
    {"CosineScheduler": dict(max_update=20, base_lr=.8, final_lr=.1)},
    {"CosineScheduler": dict(max_update=20, base_lr=.8, final_lr=0, warmup_steps=5, warmup_begin_lr=.2)},
    {"CosineScheduler": dict(max_update=20, base_lr=.8, final_lr=0, warmup_steps=5, warmup_begin_lr=.2, warmup_mode="constant")},
]


def schedules():
    out = []
    for spec in SCHEDULES:
        s = scheduler(spec)
        out.append({"scheduler": spec, "rates": [float(s(t)) for t in range(0, 31)]})
    return out


def losses():
    L, rng, out = gluon.loss, np.random.RandomState(7), []
    def case(name, loss, *inputs, args={}, weight=None):
        arrays = [nd.array(np.round(i, 3)) for i in inputs]
        arrays[0].attach_grad()
        extra = [] if weight is None else [nd.array(weight)]
        with autograd.record():
            l = loss(*arrays, *extra)
        l.backward()
        out.append({"loss": name, "args": args, "inputs": [{"shape": a.shape, "data": a.asnumpy().ravel().tolist()} for a in arrays],
                    "sample_weight": None if weight is None else {"shape": extra[0].shape, "data": extra[0].asnumpy().ravel().tolist()},
                    "value": {"shape": l.shape, "data": l.asnumpy().ravel().tolist()}, "gradient": arrays[0].grad.asnumpy().ravel().tolist()})
    r = lambda *s: rng.randn(*s)
    sw = np.array([[.5], [2.], [0.]])
    signs = lambda *s: np.sign(rng.randn(*s))
    binary = lambda *s: rng.randint(0, 2, s).astype(float)
    def many(cls, make, *options):
        for args in options:
            for weight in (None, sw):
                case(cls, getattr(L, cls)(**args), *make(), args=args, weight=weight)
    many("L1Loss", lambda: (r(3, 4), r(3, 4)), {}, {"weight": 2.5})
    many("L2Loss", lambda: (r(3, 4), r(3, 4)), {}, {"weight": 2.5})
    many("HuberLoss", lambda: (r(3, 4) * 2, r(3, 4)), {}, {"rho": .5})
    many("HingeLoss", lambda: (r(3, 4), signs(3, 4)), {}, {"margin": .5})
    many("SquaredHingeLoss", lambda: (r(3, 4), signs(3, 4)), {}, {"margin": .5})
    many("LogisticLoss", lambda: (r(3, 4), signs(3, 4)), {})
    many("LogisticLoss", lambda: (r(3, 4), binary(3, 4)), {"label_format": "binary"})
    many("SigmoidBinaryCrossEntropyLoss", lambda: (r(3, 4) * 3, binary(3, 4)), {})
    many("SigmoidBinaryCrossEntropyLoss", lambda: (rng.rand(3, 4) * .9 + .05, binary(3, 4)), {"from_sigmoid": True})
    for fs in (False, True):
        x = rng.rand(3, 4) * .9 + .05
        pw = np.round(rng.rand(1, 4) + .5, 3)
        arrays = [nd.array(np.round(x, 3)), nd.array(binary(3, 4))]
        arrays[0].attach_grad()
        with autograd.record():
            l = L.SigmoidBinaryCrossEntropyLoss(from_sigmoid=fs)(*arrays, None, nd.array(pw))
        l.backward()
        out.append({"loss": "SigmoidBinaryCrossEntropyLoss", "args": {"from_sigmoid": fs, "pos_weight": pw.ravel().tolist()},
                    "inputs": [{"shape": a.shape, "data": a.asnumpy().ravel().tolist()} for a in arrays], "sample_weight": None,
                    "value": {"shape": l.shape, "data": l.asnumpy().ravel().tolist()}, "gradient": arrays[0].grad.asnumpy().ravel().tolist()})
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    many("SoftmaxCrossEntropyLoss", lambda: (r(3, 4), rng.randint(0, 4, 3).astype(float)), {})
    many("SoftmaxCrossEntropyLoss", lambda: (r(3, 4), softmax(r(3, 4))), {"sparse_label": False})
    many("SoftmaxCrossEntropyLoss", lambda: (np.log(softmax(r(3, 4))), softmax(r(3, 4))), {"sparse_label": False, "from_logits": True})
    case("SoftmaxCrossEntropyLoss", L.SoftmaxCrossEntropyLoss(axis=1), r(3, 4, 2), rng.randint(0, 4, (3, 2)).astype(float), args={"axis": 1})
    many("KLDivLoss", lambda: (np.log(softmax(r(3, 4))), softmax(r(3, 4))), {})
    many("KLDivLoss", lambda: (r(3, 4), softmax(r(3, 4))), {"from_logits": False})
    case("PoissonNLLLoss", L.PoissonNLLLoss(), r(3, 4), rng.randint(0, 5, (3, 4)).astype(float))
    case("PoissonNLLLoss", L.PoissonNLLLoss(from_logits=False), rng.rand(3, 4) + .5, rng.randint(0, 5, (3, 4)).astype(float), args={"from_logits": False})
    # MXNet cannot differentiate compute_full, so that there is no gradient; of a label of 0 it makes a NaN.
    x, y = nd.array(np.round(r(3, 4), 3)), nd.array(rng.randint(1, 6, (3, 4)))
    l = L.PoissonNLLLoss(compute_full=True)(x, y)
    flat = lambda a: {"shape": a.shape, "data": a.asnumpy().ravel().tolist()}
    out.append({"loss": "PoissonNLLLoss", "args": {"compute_full": True}, "inputs": [flat(x), flat(y)], "sample_weight": None, "value": flat(l), "gradient": None})
    case("TripletLoss", L.TripletLoss(), r(3, 4), r(3, 4), r(3, 4))
    case("TripletLoss", L.TripletLoss(margin=.3), r(3, 4), r(3, 4), r(3, 4), args={"margin": .3})
    case("CosineEmbeddingLoss", L.CosineEmbeddingLoss(), r(3, 4), r(3, 4), np.array([1., -1, 1]))
    case("CosineEmbeddingLoss", L.CosineEmbeddingLoss(margin=-.5), r(3, 4), r(3, 4), np.array([-1., -1, 1]), args={"margin": -.5})
    return out


def metrics():
    rng, out, M = np.random.RandomState(9), [], mx.metric
    def case(name, args, batches):
        m = getattr(M, name)(**args)
        for label, pred in batches:
            m.update([nd.array(label)], [nd.array(pred)])
        a = lambda x: {"shape": np.shape(x), "data": np.asarray(x, "f4").ravel().tolist()}
        out.append({"metric": name, "args": args, "batches": [[a(l), a(p)] for l, p in batches], "value": float(m.get()[1])})
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    probs = lambda n, c: np.round(softmax(rng.randn(n, c)), 3)
    classes = lambda n, c: (rng.randint(0, c, n).astype(float), probs(n, c))
    for name, args, c in (("Accuracy", {}, 4), ("TopKAccuracy", {"top_k": 2}, 5), ("F1", {}, 2), ("F1", {"average": "micro"}, 2), ("MCC", {}, 2), ("MCC", {"average": "micro"}, 2),
                          ("CrossEntropy", {}, 4), ("NegativeLogLikelihood", {}, 4), ("Perplexity", {"ignore_label": None}, 4), ("Perplexity", {"ignore_label": 1}, 4)):
        case(name, args, [classes(8, c), classes(5, c)])
    values = lambda n: (np.round(rng.randn(n, 1), 3), np.round(rng.randn(n, 1), 3))
    for name in ("MAE", "MSE", "RMSE", "PearsonCorrelation"):
        case(name, {}, [values(6), values(6)])
        case(name, {}, [values(6), values(3)])
    case("PearsonCorrelation", {"average": "micro"}, [values(6), values(3)])
    return out


if __name__ == "__main__":
    params()
    traces()
    write(os.path.join(HERE, "updates.json"), updates())
    write(os.path.join(HERE, "schedules.json"), schedules())
    write(os.path.join(HERE, "losses.json"), losses())
    write(os.path.join(HERE, "metrics.json"), metrics())
