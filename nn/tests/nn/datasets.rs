//! Datasets made of others, samplers, and functions that make batches.

use isograd_core::{DType, Error, Tensor, format::HostArray};
use isograd_nn::data::{
    BatchSampler, Batchify, DataLoader, Dataset, FixedBatches, Group, IntervalSampler, LastBatch, Pad, RandomSampler,
    Sampler, SequentialSampler, SimpleDataset, Stack, SubsetSampler, Transform, WeightedSampler, vision::Image,
};
use isograd_nn::parallel::split_data;
use isograd_reference::Reference;
use proptest::prelude::*;
use rand::SeedableRng;
use std::sync::Arc;

fn numbers(n: i64) -> SimpleDataset<i64> {
    SimpleDataset::new((0..n).collect())
}

fn all<D: Dataset>(dataset: &D) -> Vec<D::Item> {
    (0..dataset.len()).map(|i| dataset.get(i).unwrap()).collect()
}

#[test]
fn datasets_of_datasets() {
    assert_eq!(all(&numbers(5).transform(|x, _| Ok(x * 10))), [0, 10, 20, 30, 40]);
    assert_eq!(all(&numbers(5).take(2)), [0, 1]);
    assert_eq!(all(&numbers(2).take(9)), [0, 1]);
    assert_eq!(all(&numbers(9).filter(|x| x % 4 == 0).unwrap()), [0, 4, 8]);
    assert_eq!(all(&numbers(9).subset(vec![7, 7, 1]).unwrap()), [7, 7, 1]);
    assert!(matches!(numbers(3).subset(vec![3]), Err(Error::InvalidArgument { .. })));
    assert!(matches!(numbers(3).shard(2, 2), Err(Error::InvalidArgument { .. })));
    assert!(numbers(3).take(1).get(1).is_err());
    let failing = numbers(3).transform(|x, _| if x == 1 { Err(Error::invalid("test", "one")) } else { Ok(x) });
    assert!(matches!(failing.filter(|_| true), Err(Error::Sample { index: 1, .. })));
}

#[test]
fn the_first_part_of_a_sample() {
    let pairs = SimpleDataset::new(vec![(1i64, "one"), (2, "two")]);
    let double = |x: i64, _: &mut isograd_nn::data::Generator| Ok(x as f64 * 2.0);
    assert_eq!(all(&pairs.transform_first(double)), [(2.0, "one"), (4.0, "two")]);
    let triples = SimpleDataset::new(vec![(1i64, 'a', 'b')]);
    assert_eq!(all(&triples.transform_first(double)), [(2.0, 'a', 'b')]);
    let arrays = SimpleDataset::new(vec![[1i64, 5]]);
    let negate = |x: i64, _: &mut isograd_nn::data::Generator| Ok(-x);
    assert_eq!(all(&arrays.transform_first(negate)), [[-1, 5]]);
}

#[test]
fn datasets_behind_pointers() {
    let boxed: Box<dyn Dataset<Item = i64>> = Box::new(numbers(4).take(3));
    let shared = Arc::new(boxed);
    assert_eq!(all(&shared.clone().transform(|x, _| Ok(x + 1))), [1, 2, 3]);
    assert_eq!(shared.len(), 3);
}

proptest! {
    #[test]
    fn shards_are_a_partition(n in 0i64..40, shards in 1usize..9) {
        let parts: Vec<Vec<i64>> = (0..shards).map(|i| all(&numbers(n).shard(shards, i).unwrap())).collect();
        let (least, most) = (parts.iter().map(Vec::len).min(), parts.iter().map(Vec::len).max());
        prop_assert!(most.unwrap() - least.unwrap() <= 1);
        prop_assert_eq!(parts.concat(), (0..n).collect::<Vec<_>>());
    }

    #[test]
    fn interval_samplers_take_each_once(n in 1usize..40, interval in 1usize..10) {
        prop_assume!(interval <= n);
        let sampler = IntervalSampler::new(n, interval).unwrap();
        let mut seen = sampler.indices(0);
        prop_assert_eq!(sampler.len(), seen.len());
        seen.sort_unstable();
        prop_assert_eq!(seen, (0..n).collect::<Vec<_>>());
        let some = sampler.rollover(false);
        prop_assert_eq!(some.len(), some.indices(0).len());
        prop_assert!(some.indices(0).iter().all(|i| i % interval == 0));
    }

    #[test]
    fn the_number_of_batches_is_what_is_announced(n in 0usize..20, size in 1usize..7, epoch in 0u64..6, last in 0usize..3) {
        let last = [LastBatch::Keep, LastBatch::Discard, LastBatch::Rollover][last];
        let batches = FixedBatches::new(RandomSampler::new(n, 1), size, last).unwrap();
        prop_assert_eq!(batches.len(epoch), batches.batches(epoch).len());
    }

    #[test]
    fn padding_keeps_the_values(shapes in prop::collection::vec((0usize..4, 0usize..4), 1..5)) {
        let samples: Vec<HostArray> = shapes.iter().map(|&(a, b)| {
            let values: Vec<i64> = (1..=(a * b) as i64).collect();
            HostArray::from_slice(&values, [a, b]).unwrap()
        }).collect();
        let padded = Pad::new(0).batch(samples).unwrap();
        let (rows, columns) = (padded.shape[1], padded.shape[2]);
        prop_assert_eq!(Some(rows), shapes.iter().map(|s| s.0).max());
        prop_assert_eq!(Some(columns), shapes.iter().map(|s| s.1).max());
        let values = padded.to_vec::<i64>().unwrap();
        for (k, &(a, b)) in shapes.iter().enumerate() {
            for i in 0..rows {
                for j in 0..columns {
                    let expected = if i < a && j < b { (i * b + j + 1) as i64 } else { 0 };
                    prop_assert_eq!(values[(k * rows + i) * columns + j], expected);
                }
            }
        }
    }
}

#[test]
fn samplers() {
    assert_eq!(SequentialSampler::new(3).start(4).indices(9), [4, 5, 6]);
    let random = RandomSampler::new(30, 2);
    assert_ne!(random.indices(0), random.indices(1));
    assert_eq!(random.indices(1), RandomSampler::new(30, 2).indices(1));
    let odd = SubsetSampler::filter(&numbers(8), |x| x % 2 == 1).unwrap();
    assert_eq!(odd.indices(0), [1, 3, 5, 7]);
    let mut shuffled = odd.shuffle(1).indices(0);
    shuffled.sort_unstable();
    assert_eq!(shuffled, [1, 3, 5, 7]);
    assert!(IntervalSampler::new(3, 0).is_err() && IntervalSampler::new(3, 4).is_err());
    assert!(FixedBatches::new(SequentialSampler::new(3), 0, LastBatch::Keep).is_err());
}

#[test]
fn weights_are_probabilities() {
    let weights = vec![0.0, 1.0, 0.0, 2.0, 5.0, 0.0];
    let n = 8000;
    let drawn = WeightedSampler::new(weights.clone(), n, 3).unwrap().indices(0);
    for (i, weight) in weights.iter().enumerate() {
        let (count, p) = (drawn.iter().filter(|&&d| d == i).count() as f64, weight / 8.0);
        // Five standard deviations.
        assert!((count - p * n as f64).abs() <= 5.0 * (n as f64 * p * (1.0 - p)).sqrt(), "{i}: {count}");
    }
    for bad in [vec![], vec![0.0], vec![1.0, -1.0], vec![f64::NAN], vec![f64::MAX, f64::MAX]] {
        assert!(matches!(WeightedSampler::new(bad, 1, 0), Err(Error::InvalidArgument { .. })));
    }
}

#[test]
fn batches_of_tuples_pictures_and_groups() {
    let image = |v| Image::filled(2, 1, &[v, 0, 0]).unwrap();
    let (images, (x, y)) = Stack.batch(vec![(image(1), (1.5f64, true)), (image(2), (2.5, false))]).unwrap();
    assert_eq!((images.dtype, &images.shape[..]), (DType::U8, &[2, 1, 2, 3][..]));
    assert_eq!((x.to_vec::<f64>().unwrap(), y.to_vec::<bool>().unwrap()), (vec![1.5, 2.5], vec![true, false]));
    let array = |n: usize| HostArray::from_slice(&vec![1.0f32; n], [n]).unwrap();
    let sum = |numbers: Vec<i64>| Ok(numbers.iter().sum::<i64>());
    let ((padded, lengths), total) =
        Group((Pad::new(0.5).round_to(4).with_lengths(), sum)).batch(vec![(array(2), 3), (array(5), 4)]).unwrap();
    assert_eq!((&padded.shape[..], lengths.to_vec::<i64>().unwrap(), total), (&[2, 8][..], vec![2, 5], 7));
    assert_eq!(padded.to_vec::<f32>().unwrap()[..4], [1.0, 1.0, 0.5, 0.5]);
}

#[test]
fn samples_that_do_not_fit_each_other() {
    let array = |shape: &[usize]| HostArray::from_slice(&vec![0u8; shape.iter().product()], shape).unwrap();
    assert!(matches!(Pad::new(0).batch(vec![array(&[2]), array(&[2, 2])]), Err(Error::ShapeMismatch { .. })));
    let other = HostArray::from_slice(&[0.0f32], [1]).unwrap();
    assert!(matches!(Pad::new(0).batch(vec![array(&[1]), other.clone()]), Err(Error::DTypeMismatch { .. })));
    assert!(matches!(Stack.batch(vec![array(&[1]), other]), Err(Error::DTypeMismatch { .. })));
    assert!(matches!(Pad::new(300).batch(vec![array(&[1]), array(&[2])]), Err(Error::ScalarOutOfRange { .. })));
    assert!(matches!(Pad::new(0).batch(vec![]), Err(Error::InvalidArgument { .. })));
}

#[test]
fn numbers_beyond_all_sizes_are_refused() {
    let array = HostArray::from_slice(&[1u8, 2, 3], [3]).unwrap();
    for n in [1 << 40, 1 << 62, 1 << 63, usize::MAX] {
        let padded = Pad::new(0).round_to(n).batch(vec![array.clone(), array.clone()]);
        assert!(
            matches!(
                padded,
                Err(Error::OutOfMemory { .. } | Error::InvalidArgument { .. } | Error::InvalidShape { .. })
            ),
            "{padded:?}"
        );
        let loader = DataLoader::new(numbers(4), 2).unwrap().workers(2).prefetch(n);
        assert_eq!(loader.epoch(&Reference).map(|b| b.unwrap().size()).collect::<Vec<_>>(), [2, 2]);
        let mut far =
            DataLoader::new(numbers(4), 2).unwrap().sampler(SequentialSampler::new(2).start(n)).epoch(&Reference);
        assert!(matches!(far.next(), Some(Err(Error::Sample { .. }))));
        let one = DataLoader::new(numbers(4), n).unwrap().epoch(&Reference).next().unwrap().unwrap();
        assert_eq!(one.size(), 4);
        assert!(matches!(WeightedSampler::new(vec![1.0], n, 0), Err(Error::OutOfMemory { .. })));
        assert!(matches!(IntervalSampler::new(n, 1), Err(Error::OutOfMemory { .. })));
        let none = Tensor::zeros(&Reference, [0, 2], DType::F32).unwrap();
        assert!(matches!(split_data(&none, n, 0, true), Err(Error::OutOfMemory { .. })));
    }
}

#[test]
fn chains_of_transforms() {
    let add = |x: i64, _: &mut isograd_nn::data::Generator| Ok(x + 1);
    let text = |x: i64, _: &mut isograd_nn::data::Generator| Ok(x.to_string());
    let generator = &mut isograd_nn::data::Generator::seed_from_u64(0);
    assert_eq!(add.then(add).then(text).apply(5, generator).unwrap(), "7");
    let composed =
        isograd_nn::data::Compose::new().add(add).add(|x: i64, _: &mut isograd_nn::data::Generator| Ok(x * 10));
    assert_eq!(composed.apply(5, generator).unwrap(), 60);
}
