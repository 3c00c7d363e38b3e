//! Loading by several threads: the same batches whatever their number, and what becomes of errors, panics and early ends.

use isograd_core::{Backend, Error, Result, Tensor, autograd, format::HostArray, operators::random};
use isograd_nn::{
    Activation, Block, Dense, Parameters, Sequential, Trainer,
    data::{
        BatchSampler, DataLoader, Dataset, Generator, LastBatch, SimpleDataset, Transform, WeightedSampler,
        vision::{Image, RandomColorJitter, RandomCrop, RandomFlipLeftRight, ToTensor},
    },
    initializers::Xavier,
    loss::{Loss, SoftmaxCrossEntropyLoss},
    optimizer::SGD,
};
use isograd_reference::Reference;
use rand::RngExt;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::Duration,
};

on_every_backend! { training_does_not_depend_on_workers }

fn pictures(n: usize) -> SimpleDataset<(Image, i64)> {
    let picture = |i: usize| {
        let data = (0..8 * 8 * 3).map(|k| (k * (i + 3) % 251) as u8).collect();
        (Image::new(8, 8, 3, data).unwrap(), (i % 3) as i64)
    };
    SimpleDataset::new((0..n).map(picture).collect())
}

fn augmented(n: usize) -> impl Dataset<Item = (HostArray, i64)> {
    let jitter = RandomColorJitter::new().brightness(0.4).contrast(0.3).saturation(0.3).hue(0.2);
    let random = RandomCrop::new(8, 8).padding(2, 0).then(RandomFlipLeftRight::default()).then(jitter);
    pictures(n).transform_first(random.then(ToTensor))
}

/// Every bit of two epochs.
fn bits(loader: &DataLoader<impl Dataset<Item = (HostArray, i64)>>) -> Vec<Vec<(Vec<u32>, Vec<i64>)>> {
    let batch = |batch: Result<(Tensor<Reference>, Tensor<Reference>)>| {
        let (x, y) = batch.unwrap();
        (x.to_vec::<f32>().unwrap().iter().map(|v| v.to_bits()).collect(), y.to_vec().unwrap())
    };
    (0..2).map(|_| loader.epoch(&Reference).map(batch).collect()).collect()
}

#[test]
fn batches_do_not_depend_on_workers() {
    for last in [LastBatch::Keep, LastBatch::Discard, LastBatch::Rollover] {
        let load = |workers, prefetch| {
            let loader = DataLoader::new(augmented(23), 4).unwrap().shuffle(7).last_batch(last);
            bits(&loader.workers(workers).prefetch(prefetch))
        };
        let alone = load(0, 0);
        assert_ne!(alone[0], alone[1], "epochs are alike");
        for (workers, prefetch) in [(1, 0), (1, 5), (2, 0), (2, 3), (4, 8), (9, 1)] {
            assert!(load(workers, prefetch) == alone, "{workers} workers, {prefetch} ahead");
        }
    }
}

#[test]
fn a_seed_determines_augmentation_and_an_epoch_can_be_taken_up() {
    let load = |seed| DataLoader::new(augmented(6), 3).unwrap().seed(seed);
    assert_eq!(bits(&load(1)), bits(&load(1)));
    assert_ne!(bits(&load(1)), bits(&load(2)));
    let shuffled = || DataLoader::new(augmented(10), 4).unwrap().shuffle(3).last_batch(LastBatch::Rollover);
    let unbroken = bits(&shuffled());
    let resumed = shuffled().workers(2).start_at(1);
    assert_eq!(resumed.len(), unbroken[1].len());
    assert_eq!(bits(&resumed)[0], unbroken[1]);
}

/// Every draw of a sample that comes several times in an epoch is another one.
#[test]
fn a_sample_drawn_twice_is_augmented_anew() {
    let drawn = SimpleDataset::new(vec![(); 1]).transform(|(), g: &mut Generator| Ok(g.random::<f64>()));
    let loader = DataLoader::new(drawn, 50).unwrap().sampler(WeightedSampler::new(vec![1.0], 50, 0).unwrap());
    let mut values: Vec<f64> = loader.epoch(&Reference).next().unwrap().unwrap().to_vec().unwrap();
    values.sort_by(f64::total_cmp);
    values.dedup();
    assert_eq!(values.len(), 50);
    let same = loader.dataset();
    assert_eq!(same.get(0).unwrap(), same.get(0).unwrap());
}

fn training_does_not_depend_on_workers<B: Backend>(ctx: &B) {
    let train = |workers| {
        random::seed(5);
        let mut net = Sequential::new();
        net.add(Dense::new(8).activation(Activation::Relu)).add(Dense::new(3));
        net.initialize(Xavier::default(), ctx).unwrap();
        let mut trainer = Trainer::new(net.collect_params(), SGD::new(0.1).momentum(0.9)).unwrap();
        let loader = DataLoader::new(augmented(24), 5).unwrap().shuffle(11).workers(workers);
        let mut losses = vec![];
        for _ in 0..3 {
            for batch in loader.epoch(ctx) {
                let (x, y) = batch.unwrap();
                let loss = || SoftmaxCrossEntropyLoss::default().loss(&net.forward(&x)?, &y);
                let loss = autograd::record(loss).unwrap();
                loss.backward().unwrap();
                trainer.step(y.size()).unwrap();
                losses.extend(loss.to_vec::<f32>().unwrap());
            }
        }
        let mut weights = vec![];
        for (_, parameter) in net.collect_params().iter() {
            weights.extend(parameter.data().unwrap().to_vec::<f32>().unwrap());
        }
        let all = losses.iter().chain(&weights).map(|v| v.to_bits());
        all.collect::<Vec<u32>>()
    };
    let alone = train(0);
    for workers in [1, 2, 4] {
        assert!(train(workers) == alone, "{workers} workers");
    }
}

/// Numbers; 13 is an error, 17 a panic. Counts what was asked for.
struct Unlucky(Arc<AtomicUsize>);

impl Dataset for Unlucky {
    type Item = i64;

    fn len(&self) -> usize {
        1000
    }

    fn get(&self, index: usize) -> Result<i64> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match index {
            13 => Err(Error::file("sample", 7, "it is damaged")),
            17 => panic!("seventeen"),
            _ => Ok(index as i64),
        }
    }
}

#[test]
fn errors_and_panics_arrive_in_the_place_of_their_batch() {
    for workers in [1, 2, 3] {
        let loader = DataLoader::new(Unlucky(Arc::default()), 5).unwrap().workers(workers);
        let batches: Vec<Result<Vec<i64>>> = loader.epoch(&Reference).map(|b| b.and_then(|b| b.to_vec())).collect();
        assert_eq!(batches.len(), 200);
        for (k, batch) in batches.into_iter().enumerate() {
            match (k, batch) {
                (2, Err(Error::Sample { index: 13, source })) => assert!(matches!(*source, Error::File { at: 7, .. })),
                (3, Err(Error::Sample { index: 17, source })) => {
                    assert!(matches!(&*source, Error::Panicked { message, .. } if message == "seventeen"), "{source}");
                }
                (k, batch) => assert_eq!(batch.unwrap(), (5 * k as i64..5 * k as i64 + 5).collect::<Vec<_>>()),
            }
        }
    }
    let alone = DataLoader::new(Unlucky(Arc::default()), 5).unwrap();
    let third = alone.epoch(&Reference).nth(2).unwrap();
    assert!(matches!(third, Err(Error::Sample { index: 13, .. })));
}

#[test]
fn a_panic_in_batchify_is_reported() {
    let explode = |_: Vec<i64>| -> Result<HostArray> { panic!("no batch of {}", 1) };
    let loader = DataLoader::new(SimpleDataset::new(vec![1i64, 2]), 2).unwrap().batchify(explode).workers(1);
    let error = loader.epoch(&Reference).next().unwrap().unwrap_err();
    assert!(matches!(&error, Error::Panicked { message, .. } if message == "no batch of 1"), "{error}");
}

#[test]
fn an_early_end_stops_the_workers_and_waits_for_them() {
    let asked = Arc::new(AtomicUsize::new(0));
    let alive = Arc::downgrade(&asked);
    let loader = DataLoader::new(Unlucky(asked), 1).unwrap().workers(3).prefetch(6);
    let mut batches = loader.epoch(&Reference);
    assert_eq!(batches.next().unwrap().unwrap().to_vec::<i64>().unwrap(), [0]);
    let count = || alive.upgrade().unwrap().load(Ordering::SeqCst);
    // Time to run ahead: as far as was allowed, and no further.
    let ahead = 1 + 6;
    for _ in 0..200 {
        sleep(Duration::from_millis(if count() < ahead { 50 } else { 0 }));
    }
    sleep(Duration::from_millis(50));
    assert_eq!(count(), ahead);
    drop(batches);
    let after = count();
    sleep(Duration::from_millis(50));
    assert_eq!(count(), after, "a worker lives on");
    drop(loader);
    assert!(alive.upgrade().is_none(), "a worker holds the dataset");
}

#[test]
fn ones_own_batches() {
    /// Short ones and long ones apart.
    struct Halves;
    impl BatchSampler for Halves {
        fn len(&self, _epoch: u64) -> usize {
            2
        }
        fn batches(&self, epoch: u64) -> Vec<Vec<usize>> {
            if epoch == 0 { vec![vec![0, 2], vec![1]] } else { vec![vec![1], vec![0, 7]] }
        }
    }
    let loader = DataLoader::new(SimpleDataset::new(vec![10i64, 11, 12]), 1).unwrap().batch_sampler(Halves).workers(2);
    let epoch = || loader.epoch(&Reference).map(|b| b.and_then(|b| b.to_vec::<i64>())).collect::<Vec<_>>();
    let first: Vec<_> = epoch().into_iter().map(Result::unwrap).collect();
    assert_eq!(first, [vec![10, 12], vec![11]]);
    let second = epoch();
    assert_eq!(second[0].as_ref().unwrap(), &[11]);
    assert!(matches!(second[1], Err(Error::Sample { index: 7, .. })));
}
