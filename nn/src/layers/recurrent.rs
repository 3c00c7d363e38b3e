//! The cells [`RNNCell`], [`LSTMCell`], [`GRUCell`] and the layers [`RNN`], [`LSTM`], [`GRU`] made of them.
//!
//! To add a kind of cell: a row in `Kind`, its step in `Kind::step`, and a line in each of the two macros at the end.

use super::{dropped, epilogue::linear, python};
use crate::{
    Activation, Block, Initializer, Parameter, Parameters, Visitor,
    describe::print_blocks,
    hooks,
    initializers::{Uniform, Zero},
    naming, options,
};
use isograd_core::{Backend, Dyn, Error, Result, Shape, Tensor};
use std::sync::Arc;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Rnn(Activation),
    Lstm,
    Gru,
}

impl Kind {
    fn gates(self) -> usize {
        match self {
            Kind::Rnn(_) => 1,
            Kind::Lstm => 4,
            Kind::Gru => 3,
        }
    }

    fn states(self) -> usize {
        if self == Kind::Lstm { 2 } else { 1 }
    }

    /// The new states from the gates that input and state contribute, `[batch, gates · hidden]`.
    fn step<B: Backend>(self, x: &Tensor<B>, h: &Tensor<B>, states: &[Tensor<B>]) -> Result<Vec<Tensor<B>>> {
        match (self, states) {
            (Kind::Lstm, [_, c]) => {
                let gates = x.add(h)?.split(4, -1)?;
                let (i, f, g, o) = (gates[0].sigmoid()?, gates[1].sigmoid()?, gates[2].tanh()?, gates[3].sigmoid()?);
                let c = f.mul(c)?.add(&i.mul(&g)?)?;
                Ok(vec![o.mul(&c.tanh()?)?, c])
            }
            (Kind::Gru, [old]) => {
                let (x, h) = (x.split(3, -1)?, h.split(3, -1)?);
                let (r, z) = (x[0].add(&h[0])?.sigmoid()?, x[1].add(&h[1])?.sigmoid()?);
                let n = x[2].add(&r.mul(&h[2])?)?.tanh()?;
                // (1 - z) n + z h
                Ok(vec![n.add(&z.mul(&old.sub(&n)?)?)?])
            }
            (Kind::Rnn(activation), [_]) => Ok(vec![activation.forward(&x.add(h)?)?]),
            _ => {
                let why = format!("{} states are needed, not {}", self.states(), states.len());
                Err(Error::invalid("recurrent cell", why))
            }
        }
    }
}

/// The initializers of weights and biases of inputs and states, where they are not the network's.
type Initializers<B> = [Option<Arc<dyn Initializer<B>>>; 4];

/// The four parameters of a cell.
#[derive(Clone)]
struct Weights<B: Backend> {
    hidden: usize,
    gates: usize,
    i2h_weight: Parameter<B>,
    h2h_weight: Parameter<B>,
    i2h_bias: Parameter<B>,
    h2h_bias: Parameter<B>,
}

impl<B: Backend> Weights<B> {
    fn new(prefix: &str, kind: Kind, hidden: usize, inputs: Option<usize>) -> Self {
        let rows = Some(kind.gates().saturating_mul(hidden));
        let parameter = |name: &str, shape: &[Option<usize>]| Parameter::new(format!("{prefix}{name}"), shape);
        Weights {
            hidden,
            gates: kind.gates(),
            i2h_weight: parameter("i2h_weight", &[rows, inputs]),
            h2h_weight: parameter("h2h_weight", &[rows, Some(hidden)]),
            i2h_bias: parameter("i2h_bias", &[rows]).with_initializer(Zero),
            h2h_bias: parameter("h2h_bias", &[rows]).with_initializer(Zero),
        }
    }

    fn all(&self) -> [(&'static str, &Parameter<B>); 4] {
        [
            ("i2h_weight", &self.i2h_weight),
            ("h2h_weight", &self.h2h_weight),
            ("i2h_bias", &self.i2h_bias),
            ("h2h_bias", &self.h2h_bias),
        ]
    }

    fn all_mut(&mut self) -> [(&'static str, &mut Parameter<B>); 4] {
        [
            ("i2h_weight", &mut self.i2h_weight),
            ("h2h_weight", &mut self.h2h_weight),
            ("i2h_bias", &mut self.i2h_bias),
            ("h2h_bias", &mut self.h2h_bias),
        ]
    }

    /// Initializes parameter `i` of [`Weights::all`] by `initializer`.
    fn initialize_by(&mut self, i: usize, initializer: &Arc<dyn Initializer<B>>) {
        change(self.all_mut()[i].1, |p| p.initialized_by(initializer.clone()));
    }

    fn visit(&self, prefix: &str, visitor: &mut dyn Visitor<B>) {
        self.all().into_iter().for_each(|(name, parameter)| visitor.child(&format!("{prefix}{name}"), parameter));
    }

    /// x W_iᵀ + b_i on the last axis.
    fn input_gates(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
        let rows = self.gates.saturating_mul(self.hidden);
        let weight = self.i2h_weight.bind(x.ctx(), &[rows, x.shape()[x.rank() - 1]])?;
        linear(x, &weight, Some(&self.i2h_bias.bind(x.ctx(), &[rows])?), None)
    }

    /// h W_hᵀ + b_h.
    fn state_gates(&self, h: &Tensor<B>) -> Result<Tensor<B>> {
        let rows = self.gates.saturating_mul(self.hidden);
        let weight = self.h2h_weight.bind(h.ctx(), &[rows, self.hidden])?;
        linear(h, &weight, Some(&self.h2h_bias.bind(h.ctx(), &[rows])?), None)
    }
}

fn change<B: Backend>(parameter: &mut Parameter<B>, f: impl FnOnce(Parameter<B>) -> Parameter<B>) {
    // Another handle for the moment would make it a shared one.
    let this = std::mem::replace(parameter, Parameter::new("", &[]));
    *parameter = f(this);
}

/// Puts `given` in the place of the parameter of this name.
fn give<B: Backend>(mut all: Vec<(String, &mut Parameter<B>)>, name: &str, given: &Parameter<B>) {
    match all.iter().position(|(n, _)| n == name) {
        Some(at) => change(all[at].1, |p| p.replaced(given)),
        None => {
            let names: Vec<&str> = all.iter().map(|(n, _)| n.as_str()).collect();
            let why = format!("the layer was given a parameter {name:?}, but has only {}", names.join(", "));
            all.into_iter().for_each(|(_, p)| change(p, |p| p.refuse(why.as_str())));
        }
    }
}

/// What all recurrent layers are.
#[derive(Clone)]
struct Layers<B: Backend> {
    kind: Kind,
    prefix: String,
    hidden: usize,
    count: usize,
    inputs: Option<usize>,
    batch_first: bool,
    dropout: f64,
    bidirectional: bool,
    initializers: Initializers<B>,
    /// By layer, then by direction.
    weights: Vec<Weights<B>>,
}

impl<B: Backend> Layers<B> {
    fn new(prefix: String, kind: Kind, hidden: usize) -> Self {
        let layers = Layers {
            kind,
            prefix,
            hidden,
            count: 1,
            inputs: None,
            batch_first: false,
            dropout: 0.0,
            bidirectional: false,
            initializers: Default::default(),
            weights: vec![],
        };
        layers.rebuilt()
    }

    fn directions(&self) -> usize {
        1 + usize::from(self.bidirectional)
    }

    /// `l0_`, `r0_`, `l1_`, ...
    fn place(&self, i: usize) -> String {
        format!("{}{}_", ["l", "r"][i % self.directions()], i / self.directions())
    }

    fn rebuilt(mut self) -> Self {
        let inner = Some(self.directions().saturating_mul(self.hidden));
        let total = self.count * self.directions();
        let weights = |i: usize| {
            let inputs = if i < self.directions() { self.inputs } else { inner };
            Weights::new(&format!("{}{}", self.prefix, self.place(i)), self.kind, self.hidden, inputs)
        };
        self.weights = (0..total).map(weights).collect();
        for (i, initializer) in self.initializers.iter().enumerate() {
            let initializer = initializer.iter();
            initializer.for_each(|by| self.weights.iter_mut().for_each(|w| w.initialize_by(i, by)));
        }
        self
    }

    /// With so many layers and directions: other parameters, which cannot be once these are shared or initialized.
    fn restructured(mut self, count: usize, bidirectional: bool) -> Self {
        if (count, bidirectional) == (self.count, self.bidirectional) {
            return self;
        }
        if self.weights.iter().flat_map(Weights::all).all(|(_, p)| p.is_free()) {
            (self.count, self.bidirectional) = (count, bidirectional);
            return self.rebuilt();
        }
        let why = format!(
            "it is shared or initialized with {} layers in {} directions, so that there cannot be {count} in {}",
            self.count,
            self.directions(),
            1 + usize::from(bidirectional)
        );
        let all = self.weights.iter_mut().flat_map(Weights::all_mut);
        all.for_each(|(_, p)| change(p, |p| p.refuse(why.as_str())));
        self
    }

    fn with_inputs(mut self, inputs: usize) -> Self {
        self.inputs = Some(inputs);
        let (rows, directions) = (Some(self.kind.gates() * self.hidden), self.directions());
        for weights in &mut self.weights[..directions] {
            change(&mut weights.i2h_weight, |p| p.shaped(&[rows, Some(inputs)]));
        }
        self
    }

    fn with_parameter(mut self, name: &str, given: &Parameter<B>) -> Self {
        let places: Vec<String> = (0..self.weights.len()).map(|i| self.place(i)).collect();
        let all = self.weights.iter_mut().zip(&places);
        let all = all.flat_map(|(w, place)| w.all_mut().map(|(name, p)| (format!("{place}{name}"), p)));
        give(all.collect(), name, given);
        self
    }

    fn initialized_by(mut self, i: usize, initializer: Arc<dyn Initializer<B>>) -> Self {
        self.weights.iter_mut().for_each(|w| w.initialize_by(i, &initializer));
        self.initializers[i] = Some(initializer);
        self
    }

    fn label(&self, name: &str) -> String {
        let inputs = self.weights.first().and_then(|w| w.i2h_weight.partial_shape()[1]);
        let inputs = inputs.map_or("None".into(), |n| n.to_string());
        let layout = if self.batch_first { "NTC" } else { "TNC" };
        let mut text = format!("{name}({inputs} -> {}, {layout}", self.hidden);
        if self.count != 1 {
            text += &format!(", num_layers={}", self.count);
        }
        if self.dropout != 0.0 {
            text += &format!(", dropout={}", python::float(self.dropout));
        }
        if self.bidirectional {
            text += ", bidirectional";
        }
        text + ")"
    }

    fn begin_state(&self, op: &'static str, ctx: &B, batch: usize) -> Result<Vec<Tensor<B>>> {
        options::at_least_one(op, "num_layers", self.count as u64)?;
        let dtype = self.weights[0].i2h_weight.dtype();
        let shape = [self.weights.len(), batch, self.hidden];
        (0..self.kind.states()).map(|_| Tensor::zeros(ctx, shape, dtype)).collect()
    }

    fn run(&self, op: &'static str, x: &Tensor<B>, states: &[Tensor<B>]) -> Result<(Tensor<B>, Vec<Tensor<B>>)> {
        options::at_least_one(op, "num_layers", self.count as u64)?;
        options::share(op, "dropout", self.dropout)?;
        if x.rank() != 3 || x.shape()[0] == 0 || x.shape()[1] == 0 {
            let why = "the input must be [time, batch, features], or [batch, time, features] with layout NTC".into();
            return Err(Error::InvalidShape { op, shape: x.shape().clone(), why, device: x.ctx().name() });
        }
        let mut x = if self.batch_first { x.swapaxes(0, 1)? } else { x.clone() };
        let (times, batch) = (x.shape()[0], x.shape()[1]);
        let expected = Shape::from([self.weights.len(), batch, self.hidden]);
        if states.len() != self.kind.states() || states.iter().any(|s| *s.shape() != expected) {
            let given: Vec<&Shape> = states.iter().map(Tensor::shape).collect();
            let why = format!("{} states of shape {expected:?} are needed, not {given:?}", self.kind.states());
            return Err(Error::invalid(op, why));
        }
        let mut last: Vec<Vec<Tensor<B>>> = vec![vec![]; self.kind.states()];
        for (layer, weights) in self.weights.chunks(self.directions()).enumerate() {
            if layer > 0 {
                x = dropped(op, &x, self.dropout)?;
            }
            let mut directions = Vec::with_capacity(2);
            for (direction, weights) in weights.iter().enumerate() {
                let at = (layer * self.directions() + direction) as isize;
                let mut state: Vec<Tensor<B>> = states.iter().map(|s| s.select(0, at)).collect::<Result<_>>()?;
                // What the input contributes, for all times at once.
                let gates = weights.input_gates(&x)?;
                let mut outputs = Vec::with_capacity(times);
                for step in 0..times {
                    let time = if direction == 0 { step } else { times - 1 - step };
                    let from_input = gates.select(0, time as isize)?;
                    state = self.kind.step(&from_input, &weights.state_gates(&state[0])?, &state)?;
                    outputs.push(state[0].clone());
                }
                if direction == 1 {
                    outputs.reverse();
                }
                directions.push(Tensor::stack(&outputs.iter().collect::<Vec<_>>(), 0)?);
                last.iter_mut().zip(state).for_each(|(all, state)| all.push(state));
            }
            x = match &directions[..] {
                [one] => one.clone(),
                both => Tensor::concat(&both.iter().collect::<Vec<_>>(), 2)?,
            };
        }
        let last = last.iter().map(|all| Tensor::stack(&all.iter().collect::<Vec<_>>(), 0)).collect::<Result<_>>()?;
        Ok((if self.batch_first { x.swapaxes(0, 1)? } else { x }, last))
    }
}

/// The builder methods that set an initializer, by way of `$set(self, index in Initializers, initializer)`.
macro_rules! initializers {
    ($name:ident, $set:expr) => {
        impl<B: Backend> $name<B> {
            /// Initializes the weights on the input side by `initializer`, whatever the network is initialized with.
            #[must_use]
            pub fn i2h_weight_initializer(self, initializer: impl Initializer<B> + 'static) -> Self {
                $set(self, 0, Arc::new(initializer))
            }

            /// Initializes the weights on the state's side by `initializer`, whatever the network is initialized with.
            #[must_use]
            pub fn h2h_weight_initializer(self, initializer: impl Initializer<B> + 'static) -> Self {
                $set(self, 1, Arc::new(initializer))
            }

            /// Initializes the biases on the input side by `initializer` instead of zeros.
            #[must_use]
            pub fn i2h_bias_initializer(self, initializer: impl Initializer<B> + 'static) -> Self {
                $set(self, 2, Arc::new(initializer))
            }

            /// Initializes the biases on the state's side by `initializer` instead of zeros.
            #[must_use]
            pub fn h2h_bias_initializer(self, initializer: impl Initializer<B> + 'static) -> Self {
                $set(self, 3, Arc::new(initializer))
            }

            /// As in PyTorch: all parameters uniform in ±1/√hidden at first, biases too; and where there is a choice of
            /// activations, tanh, unless another is chosen after this.
            #[must_use]
            pub fn torch_defaults(mut self) -> Self {
                if let Kind::Rnn(activation) = self.kind_mut() {
                    *activation = Activation::Tanh;
                }
                let uniform = Uniform { scale: 1.0 / (self.hidden() as f64).sqrt() };
                let initializer: Arc<dyn Initializer<B>> = Arc::new(uniform);
                (0..4).fold(self, |layer, i| $set(layer, i, initializer.clone()))
            }
        }
    };
}

macro_rules! layers {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:expr;)*) => { $(
        $(#[$doc])*
        ///
        /// The input is `[time, batch, features]`, or `[batch, time, features]` with [`Self::batch_first`]; the output has
        /// `hidden` features, twice as many with [`Self::bidirectional`]. States are `[layers · directions, batch, hidden]`,
        /// zeros unless given. Parameters are `l0_i2h_weight`, `l0_h2h_weight`, `l0_i2h_bias`, `l0_h2h_bias`, then those of
        /// the other direction, `r0_..`, and of the next layer. A clone shares them.
        #[derive(Clone)]
        pub struct $name<B: Backend = Dyn>(Layers<B>);

        impl<B: Backend> $name<B> {
            /// One layer of `hidden` units in one direction.
            pub fn new(hidden: usize) -> Self {
                $name(Layers::new(naming::prefix($prefix), $kind, hidden))
            }

            /// How many layers lie on each other; none is refused by the forward pass.
            #[must_use]
            pub fn num_layers(self, layers: usize) -> Self {
                let bidirectional = self.0.bidirectional;
                $name(self.0.restructured(layers, bidirectional))
            }

            /// Whether a second set of units reads each sequence from its end.
            #[must_use]
            pub fn bidirectional(self, bidirectional: bool) -> Self {
                let layers = self.0.count;
                $name(self.0.restructured(layers, bidirectional))
            }

            /// The number of input features, so that shapes are known before the first batch.
            #[must_use]
            pub fn input_size(self, inputs: usize) -> Self {
                $name(self.0.with_inputs(inputs))
            }

            /// Whether the batch is the first axis, Gluon's layout NTC.
            #[must_use]
            pub fn batch_first(mut self, batch_first: bool) -> Self {
                self.0.batch_first = batch_first;
                self
            }

            /// The probability of dropping what goes from one layer to the next, in train mode.
            #[must_use]
            pub fn dropout(mut self, rate: f64) -> Self {
                self.0.dropout = rate;
                self
            }

            /// States of zeros for a batch.
            ///
            /// # Errors
            /// [`Error::InvalidArgument`] for no layers; what the device reports.
            pub fn begin_state(&self, ctx: &B, batch: usize) -> Result<Vec<Tensor<B>>> {
                self.0.begin_state(stringify!($name), ctx, batch)
            }

            /// Uses the parameters of `other`: gradients add up, and a step changes both layers. What shapes the parameters
            /// (the number of layers, directions and inputs) is taken over with them.
            #[must_use]
            pub fn share(mut self, other: &Self) -> Self {
                self.0 = Layers { prefix: self.0.prefix, batch_first: self.0.batch_first, dropout: self.0.dropout, ..other.0.clone() };
                self
            }

            /// Uses `parameter`, such as that of another layer, in the place of the one of this name, such as `l0_i2h_weight`: the
            /// two are one. Its shape must be that of this layer's.
            #[must_use]
            pub fn with_parameter(self, name: &str, parameter: &Parameter<B>) -> Self {
                $name(self.0.with_parameter(name, parameter))
            }

            /// The outputs, and the states after the last time.
            ///
            /// # Errors
            /// [`Error::InvalidShape`], [`Error::InvalidArgument`] for states that do not fit; as [`Block::forward`].
            pub fn forward_with(&self, x: &Tensor<B>, states: &[Tensor<B>]) -> Result<(Tensor<B>, Vec<Tensor<B>>)> {
                hooks::observe(self.id(), &(x, states), || self.0.run(stringify!($name), x, states))
            }
        }

        impl<B: Backend> Parameters<B> for $name<B> {
            fn visit(&self, visitor: &mut dyn Visitor<B>) {
                self.0.weights.iter().enumerate().for_each(|(i, w)| w.visit(&self.0.place(i), visitor));
            }

            fn label(&self) -> Option<String> {
                Some(self.0.label(stringify!($name)))
            }
        }

        impl<B: Backend> Block<B> for $name<B> {
            fn forward(&self, x: &Tensor<B>) -> Result<Tensor<B>> {
                hooks::layer(self, x, || {
                    let batch = x.shape().get(usize::from(!self.0.batch_first)).copied().unwrap_or(0);
                    Ok(self.forward_with(x, &self.begin_state(x.ctx(), batch)?)?.0)
                })
            }
        }

        impl<B: Backend> $name<B> {
            fn hidden(&self) -> usize {
                self.0.hidden
            }

            fn kind_mut(&mut self) -> &mut Kind {
                &mut self.0.kind
            }
        }

        initializers!($name, |layer: $name<B>, i: usize, initializer: Arc<dyn Initializer<B>>| {
            $name(layer.0.initialized_by(i, initializer))
        });

        print_blocks! { impl [B: Backend] $name<B>; }
    )* };
}

layers! {
    /// h ← f(x W_iᵀ + b_i + h W_hᵀ + b_h), with f relu unless [`RNN::activation`] says otherwise (Elman, 1990).
    RNN, "rnn", Kind::Rnn(Activation::Relu);
    /// Long short-term memory (Hochreiter and Schmidhuber, 1997; Gers et al., 2000): gates i, f, g, o in this order,
    /// c ← σ(f) c + σ(i) tanh(g), h ← σ(o) tanh(c). States: h and c.
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// use isograd::nn::{Block, LSTM, Parameters, initializers::Uniform};
    /// let ctx = isograd::device("cpu")?;
    /// let layer = LSTM::new(4).num_layers(2).bidirectional(true);
    /// layer.initialize(Uniform::default(), &ctx)?;
    /// let x = Tensor::ones(&ctx, [5, 3, 2], DType::F32)?;
    /// let (y, states) = layer.forward_with(&x, &layer.begin_state(&ctx, 3)?)?;
    /// assert_eq!((y.shape().to_vec(), states[1].shape().to_vec()), (vec![5, 3, 8], vec![4, 3, 4]));
    /// # Ok::<(), isograd::Error>(())
    /// ```
    LSTM, "lstm", Kind::Lstm;
    /// Gated recurrent units (Cho et al., arXiv:1406.1078, in cuDNN's form): gates r, z, n in this order,
    /// n = tanh(x_n + σ(r) h_n), h ← (1 - σ(z)) n + σ(z) h.
    GRU, "gru", Kind::Gru;
}

impl<B: Backend> RNN<B> {
    /// The function f.
    #[must_use]
    pub fn activation(mut self, activation: Activation) -> Self {
        self.0.kind = Kind::Rnn(activation);
        self
    }
}

macro_rules! cells {
    ($($(#[$doc:meta])* $name:ident, $prefix:literal, $kind:expr;)*) => { $(
        $(#[$doc])*
        /// A clone shares the parameters.
        #[derive(Clone)]
        pub struct $name<B: Backend = Dyn> {
            kind: Kind,
            weights: Weights<B>,
        }

        impl<B: Backend> $name<B> {
            /// A cell of `hidden` units.
            pub fn new(hidden: usize) -> Self {
                let kind = $kind;
                $name { kind, weights: Weights::new(&naming::prefix($prefix), kind, hidden, None) }
            }

            fn hidden(&self) -> usize {
                self.weights.hidden
            }

            fn kind_mut(&mut self) -> &mut Kind {
                &mut self.kind
            }

            /// Uses the parameters of `other`: gradients add up, and a step changes both cells.
            #[must_use]
            pub fn share(self, other: &Self) -> Self {
                other.clone()
            }

            /// Uses `parameter`, such as that of another layer, in the place of the one of this name, such as `i2h_weight`: the
            /// two are one. Its shape must be that of this layer's.
            #[must_use]
            pub fn with_parameter(mut self, name: &str, parameter: &Parameter<B>) -> Self {
                let all = self.weights.all_mut().map(|(name, p)| (name.to_string(), p));
                give(all.into(), name, parameter);
                self
            }

            /// States `[batch, hidden]` of zeros.
            ///
            /// # Errors
            /// What the device reports.
            pub fn begin_state(&self, ctx: &B, batch: usize) -> Result<Vec<Tensor<B>>> {
                let dtype = self.weights.i2h_weight.dtype();
                let shape = [batch, self.weights.hidden];
                (0..self.kind.states()).map(|_| Tensor::zeros(ctx, shape, dtype)).collect()
            }

            /// One step: the new states from an input `[batch, features]` and the old states. The first is the output.
            ///
            /// # Errors
            /// [`Error::InvalidArgument`] for another number of states; what the operators report.
            pub fn step(&self, x: &Tensor<B>, states: &[Tensor<B>]) -> Result<Vec<Tensor<B>>> {
                let Some(h) = states.first() else {
                    return Err(Error::invalid(stringify!($name), "there is no state; begin with begin_state"));
                };
                if x.rank() != 2 {
                    let (shape, device) = (x.shape().clone(), x.ctx().name());
                    let why = "the input of a cell must be [batch, features]".into();
                    return Err(Error::InvalidShape { op: stringify!($name), shape, why, device });
                }
                hooks::observe(self.id(), &(x, states), || {
                    self.kind.step(&self.weights.input_gates(x)?, &self.weights.state_gates(h)?, states)
                })
            }
        }

        impl<B: Backend> Parameters<B> for $name<B> {
            fn visit(&self, visitor: &mut dyn Visitor<B>) {
                self.weights.visit("", visitor);
            }

            fn label(&self) -> Option<String> {
                let shape = self.weights.i2h_weight.partial_shape();
                let size = |n: Option<usize>| n.map_or("None".into(), |n| n.to_string());
                let end = match self.kind {
                    Kind::Rnn(activation) => format!(", {}", activation.name()),
                    _ => String::new(),
                };
                Some(format!("{}({} -> {}{end})", stringify!($name), size(shape[1]), size(shape[0])))
            }
        }

        initializers!($name, |mut cell: $name<B>, i: usize, initializer: Arc<dyn Initializer<B>>| {
            cell.weights.initialize_by(i, &initializer);
            cell
        });

        print_blocks! { impl [B: Backend] $name<B>; }
    )* };
}

cells! {
    /// One step of an [`RNN`], with tanh.
    RNNCell, "rnncell", Kind::Rnn(Activation::Tanh);
    /// One step of an [`LSTM`].
    ///
    /// ```
    /// use isograd::{DType, Tensor};
    /// use isograd::nn::{LSTMCell, Parameters, initializers::{LSTMBias, Uniform}};
    /// let ctx = isograd::device("cpu")?;
    /// let cell = LSTMCell::new(3).i2h_bias_initializer(LSTMBias::default());
    /// cell.initialize(Uniform::default(), &ctx)?;
    /// let mut states = cell.begin_state(&ctx, 2)?;
    /// for _ in 0..4 {
    ///     states = cell.step(&Tensor::ones(&ctx, [2, 5], DType::F32)?, &states)?;
    /// }
    /// assert_eq!(states[0].shape(), &[2, 3]);
    /// # Ok::<(), isograd::Error>(())
    /// ```
    LSTMCell, "lstmcell", Kind::Lstm;
    /// One step of a [`GRU`].
    GRUCell, "grucell", Kind::Gru;
}
