//! One file for all of a training.

use isograd_core::{Backend, DType, Dyn, Error, Tensor, autograd, operators::random};
use isograd_cpu::Cpu;
use isograd_nn::{
    BatchNorm, Block, Checkpoint, Dense, Dropout, LoadOptions, LossScaler, Parameters, Sequential, Trainer,
    data::{DataLoader, SimpleDataset},
    initializers::{Normal, Uniform},
    optimizer::{AdaMax, Adam, SGD, Schedule, Scheduled},
};
use isograd_reference::Reference;
use std::{fs, path::Path};

struct Run<B: Backend> {
    net: Sequential<B>,
    trainers: [Trainer<B>; 2],
    scaler: LossScaler,
    loader: DataLoader<SimpleDataset<f32>>,
}

/// With all that keeps something between steps: running statistics, dropout, momenta, a schedule, a scale, an order.
fn run<B: Backend>(contexts: &[B], initialize: bool) -> Run<B> {
    let mut net = Sequential::new();
    net.add(Dense::new(4)).add(BatchNorm::new()).add(Dropout::new(0.5)).add(Dense::new(1));
    if initialize {
        net.initialize(Normal { sigma: 0.5 }, contexts).unwrap();
    }
    let weights = net.collect_params().matching(".*weight").unwrap();
    let rest = net.collect_params().matching(".*(bias|gamma|beta|running.*)").unwrap();
    let optimizer = Scheduled::new(Adam::new(0.1), Schedule::factor(2, 0.5));
    let trainers =
        [Trainer::new(weights, optimizer).unwrap(), Trainer::new(rest, SGD::new(0.1).momentum(0.9)).unwrap()];
    let samples = (0..10).map(|i| i as f32 / 4.0).collect();
    let loader = DataLoader::new(SimpleDataset::new(samples), 4).unwrap().shuffle(3).workers(2);
    Run { net, trainers, scaler: LossScaler::new().init_scale(4.0).growth_interval(2), loader }
}

impl<B: Backend> Run<B> {
    fn checkpoint(&mut self) -> Checkpoint<'_, B> {
        let [a, b] = &mut self.trainers;
        Checkpoint::new(&self.net).trainer(a).trainer(b).scaler(&mut self.scaler).loader(&self.loader)
    }

    /// Takes so many steps, and then saves, while the iterator over the epoch lives.
    fn steps(&mut self, contexts: &[B], steps: usize, save: Option<&Path>) {
        let mut done = 0;
        while done < steps {
            for x in self.loader.epoch(&contexts[0]) {
                let x = x.unwrap();
                let x = x.reshape([x.size() as isize, 1]).unwrap();
                for ctx in contexts {
                    let x = x.as_in_context(ctx).unwrap();
                    let loss = autograd::record(|| self.scaler.scale(&self.net.forward(&x)?.square()?)).unwrap();
                    loss.backward().unwrap();
                }
                let [a, b] = &mut self.trainers;
                let scale = self.scaler.loss_scale();
                assert!(self.scaler.step(a, 4).unwrap());
                b.set_rescale_grad(1.0 / scale);
                b.step(4).unwrap();
                done += 1;
                if done == steps {
                    if let Some(path) = save {
                        let [a, b] = &mut self.trainers;
                        let all = Checkpoint::new(&self.net).trainer(a).trainer(b).scaler(&mut self.scaler);
                        all.loader(&self.loader).save(path, 7).unwrap();
                    }
                    break;
                }
            }
        }
    }

    fn bits(&self) -> Vec<Vec<u8>> {
        let all = self.net.collect_params();
        let replicas = all.iter().flat_map(|(_, p)| p.list_data().unwrap());
        replicas.map(|t| t.to_bytes().unwrap()).collect()
    }
}

fn a_training_goes_on_from_one_file<B: Backend>(ctx: &B) {
    goes_on(std::slice::from_ref(ctx));
}

#[test]
fn a_training_on_several_contexts_goes_on_from_one_file() {
    goes_on(&[Dyn::new(Cpu::default()), Dyn::new(Reference)]);
}

fn goes_on<B: Backend>(contexts: &[B]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("training");
    // Within the second epoch of three batches each, and between two epochs.
    for stop in [4, 3] {
        random::seed(1);
        let mut first = run(contexts, true);
        first.steps(contexts, stop, Some(&path));
        let at = random::state();
        let mut second = run(contexts, stop == 3);
        random::seed(2);
        assert_eq!(second.checkpoint().load(&path, &contexts[0]).unwrap(), 7);
        assert_eq!(random::state(), at);
        assert_eq!((second.loader.position().epoch, second.loader.position().batch), (1, stop as u64 - 3));
        assert_eq!(second.scaler.state(), first.scaler.state());
        // Running statistics are averaged over contexts, so only one context goes on as if nothing had been.
        if contexts.len() > 1 {
            assert_eq!(second.trainers[0].updates(), stop as u64);
            continue;
        }
        assert_eq!(second.bits(), first.bits());
        second.steps(contexts, 5, None);
        random::seed(1);
        let mut unbroken = run(contexts, true);
        unbroken.steps(contexts, stop, None);
        // `steps` begins an epoch, so the rest of this one is taken up as by the checkpoint.
        if stop == 4 {
            unbroken.loader.resume(isograd_nn::data::Position { epoch: 1, batch: 1 });
        }
        unbroken.steps(contexts, 5, None);
        assert_eq!(second.bits(), unbroken.bits());
        assert_eq!(second.scaler.state(), unbroken.scaler.state());
        assert_eq!(second.trainers[0].learning_rate(), unbroken.trainers[0].learning_rate());
    }
}

fn a_checkpoint_that_does_not_fit_changes_nothing<B: Backend>(ctx: &B) {
    let folder = tempfile::tempdir().unwrap();
    let (path, plain) = (folder.path().join("training"), folder.path().join("parameters"));
    random::seed(4);
    let contexts = std::slice::from_ref(ctx);
    let mut saved = run(contexts, true);
    saved.steps(contexts, 2, Some(&path));
    saved.net.save_parameters(&plain).unwrap();
    let x = Tensor::ones(ctx, [2, 1], DType::F32).unwrap();
    let mut other = run(contexts, true);
    other.net.forward(&x).unwrap();
    let before = other.bits();
    random::seed(9);
    let state = random::state();
    let refused = |result: Result<u64, Error>, word: &str| {
        let error = result.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(random::state(), state);
    };
    refused(other.checkpoint().load(&plain, ctx), "no checkpoint");
    // The parameters fit; what the second trainer keeps does not.
    let rest = other.net.collect_params().matching(".*(bias|gamma|beta|running.*)").unwrap();
    let mut wrong = Trainer::new(rest, AdaMax::new(0.1)).unwrap();
    let [a, _] = &mut other.trainers;
    refused(Checkpoint::new(&other.net).trainer(a).trainer(&mut wrong).load(&path, ctx), "AdaMax");
    let [a, b] = &mut other.trainers;
    let mut third = Trainer::new(other.net.collect_params(), SGD::new(0.1)).unwrap();
    refused(Checkpoint::new(&other.net).trainer(a).trainer(b).trainer(&mut third).load(&path, ctx), "2 trainers");
    assert_eq!((other.bits(), other.trainers[0].updates()), (before, 0));
    // A net that has no values yet, and one of another shape.
    let mut less = Sequential::<B>::new();
    less.add(Dense::new(4));
    refused(Checkpoint::new(&less).load(&path, ctx), "no such parameter");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    refused(other.checkpoint().load(&path, ctx), "truncated");
    fs::write(&path, &bytes).unwrap();

    // A part of it is read alone.
    Checkpoint::new(&other.net).load(&path, ctx).unwrap();
    assert_eq!(other.bits(), saved.bits());
    let fresh = run(contexts, false);
    fresh.net.load_parameters_with(&path, ctx, LoadOptions { ignore_extra: true, ..LoadOptions::default() }).unwrap();
    assert_eq!(fresh.bits(), saved.bits());
    fresh.net.force_reinit(Uniform::default(), ctx).unwrap();
}

on_every_backend! {
    a_training_goes_on_from_one_file
    a_checkpoint_that_does_not_fit_changes_nothing
}
