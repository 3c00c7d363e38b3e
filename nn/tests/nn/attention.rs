//! Attention, positions and the Transformer block against plain loops, and gradients by differences.

use isograd_core::{Backend, DType, Error, Tensor, autograd, operators::random};
use isograd_nn::{
    Activation, AttentionMask, Block, DotProductAttention, MultiHeadAttention, Parameters, PositionalEmbedding,
    PositionalEncoding, TransformerEncoderBlock, initializers::Normal, masked_softmax,
};

on_every_backend! {
    masks_hide_what_they_should
    a_causal_mask_ends_at_the_last_key
    masks_of_two_axes_say_which_they_are
    large_scores_in_half_precision_are_finite
    heads_attend_to_their_own_part
    positions_are_sines_and_cosines
    norms_come_first_or_last
    gradients_are_those_of_differences
    misuse_is_reported
}

fn random<B: Backend>(ctx: &B, shape: &[usize]) -> Tensor<B> {
    Tensor::normal(ctx, shape, 0.0, 1.0, DType::F32).unwrap().cast(DType::F64).unwrap()
}

fn close(got: &[f64], expected: &[f64], what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let fits = got.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
    assert!(fits, "{what}: {got:?} instead of {expected:?}");
}

fn masks_hide_what_they_should<B: Backend>(ctx: &B) {
    let scores = Tensor::from_slice(ctx, &[0.0f64, 1.0, 2.0].repeat(4), [2, 2, 3]).unwrap();
    let weights = |mask: AttentionMask<B>| masked_softmax(&scores, &mask).unwrap().to_vec::<f64>().unwrap();
    let soft = |seen: &[usize]| -> Vec<f64> {
        let total: f64 = seen.iter().map(|&i| (i as f64).exp()).sum();
        (0..3).map(|i| if seen.contains(&i) { (i as f64).exp() / total } else { 0.0 }).collect()
    };
    let rows = |rows: [&[usize]; 4]| rows.map(soft).concat();
    close(&weights(AttentionMask::new()), &rows([&[0, 1, 2]; 4]), "none");
    // The last of two queries stands at the last of three keys.
    let causal = rows([&[0, 1], &[0, 1, 2], &[0, 1], &[0, 1, 2]]);
    close(&weights(AttentionMask::new().causal()), &causal, "causal");
    let lengths = Tensor::from_slice(ctx, &[2.0f32, 0.0], [2]).unwrap();
    let valid = rows([&[0, 1], &[0, 1], &[], &[]]);
    close(&weights(AttentionMask::new().valid_lengths(&lengths)), &valid, "lengths of samples");
    let lengths = Tensor::from_slice(ctx, &[1i64, 2, 3, 0], [2, 2]).unwrap();
    let valid = rows([&[0], &[0, 1], &[0, 1, 2], &[]]);
    close(&weights(AttentionMask::new().valid_lengths(&lengths)), &valid, "lengths of queries");
    let allowed = Tensor::from_slice(ctx, &[true, false, true], [3]).unwrap();
    let both = rows([&[0], &[0, 2], &[0], &[0, 2]]);
    close(&weights(AttentionMask::new().causal().allowed(&allowed)), &both, "causal, and every other");
}

/// softmax(q kᵀ / √d) v of rows, by loops; `seen` keys.
fn by_hand(q: &[f64], k: &[Vec<f64>], v: &[Vec<f64>], seen: usize) -> Vec<f64> {
    let scores: Vec<f64> =
        k[..seen].iter().map(|k| q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() / (q.len() as f64).sqrt()).collect();
    let total: f64 = scores.iter().map(|s| s.exp()).sum();
    (0..v[0].len()).map(|u| (0..seen).map(|i| scores[i].exp() / total * v[i][u]).sum()).collect()
}

fn rows(x: &[f64], columns: usize) -> Vec<Vec<f64>> {
    x.chunks(columns).map(<[f64]>::to_vec).collect()
}

fn heads_attend_to_their_own_part<B: Backend>(ctx: &B) {
    random::seed(1);
    let (queries, keys, units, heads) = (2, 3, 4, 2);
    let layer = MultiHeadAttention::new(units, heads).torch_defaults();
    crate::gradients::double(&layer);
    layer.initialize(Normal { sigma: 0.7 }, ctx).unwrap();
    layer.collect_params().iter().filter(|(path, _)| path.ends_with("bias")).for_each(|(_, p)| {
        p.force_reinit(Normal { sigma: 0.5 }, ctx).unwrap();
    });
    let (q, k, v) = (random(ctx, &[1, queries, 5]), random(ctx, &[1, keys, 3]), random(ctx, &[1, keys, 6]));
    let lengths = Tensor::from_slice(ctx, &[2i64], [1]).unwrap();
    let (got, weights) = layer.attend(&q, &k, &v, &AttentionMask::new().valid_lengths(&lengths)).unwrap();
    assert_eq!(weights.shape(), &[1, heads, queries, keys]);

    let parameter = |path: &str| layer.collect_params().get(path).unwrap().data().unwrap().to_vec::<f64>().unwrap();
    let project = |name: &str, x: &[Vec<f64>]| -> Vec<Vec<f64>> {
        let (w, b) = (parameter(&format!("{name}.weight")), parameter(&format!("{name}.bias")));
        let w = rows(&w, x[0].len());
        let one =
            |x: &Vec<f64>| (0..units).map(|u| b[u] + x.iter().zip(&w[u]).map(|(a, b)| a * b).sum::<f64>()).collect();
        x.iter().map(one).collect()
    };
    let host = |x: &Tensor<B>| rows(&x.to_vec::<f64>().unwrap(), x.shape()[2]);
    let (q, k, v) = (project("q_proj", &host(&q)), project("k_proj", &host(&k)), project("v_proj", &host(&v)));
    let size = units / heads;
    let part = |x: &[Vec<f64>], head: usize| -> Vec<Vec<f64>> {
        x.iter().map(|row| row[head * size..(head + 1) * size].to_vec()).collect()
    };
    let joined: Vec<Vec<f64>> = (0..queries)
        .map(|i| (0..heads).flat_map(|h| by_hand(&part(&q, h)[i], &part(&k, h), &part(&v, h), 2)).collect())
        .collect();
    close(&got.to_vec::<f64>().unwrap(), &project("out_proj", &joined).concat(), "two heads");
}

fn positions_are_sines_and_cosines<B: Backend>(ctx: &B) {
    let x = Tensor::full(ctx, [2, 3, 5], 1.0, DType::F64).unwrap();
    let got = PositionalEncoding::default().forward(&x).unwrap().to_vec::<f64>().unwrap();
    let angle = |p: usize, u: usize| p as f64 / 10000f64.powf(2.0 * (u / 2) as f64 / 5.0);
    let at = |p: usize, u: usize| 1.0 + if u.is_multiple_of(2) { angle(p, u).sin() } else { angle(p, u).cos() };
    let one: Vec<f64> = (0..15).map(|i| at(i / 5, i % 5)).collect();
    close(&got, &one.repeat(2), "encoding");
    random::seed(1);
    let dropped = autograd::train_mode(|| PositionalEncoding::new(0.5).forward(&x)).unwrap();
    assert!(dropped.to_vec::<f64>().unwrap().contains(&0.0));

    let learned = PositionalEmbedding::new(4, 5);
    crate::gradients::double(&learned);
    learned.initialize(Normal { sigma: 1.0 }, ctx).unwrap();
    let table = learned.weight().data().unwrap().to_vec::<f64>().unwrap();
    let expected: Vec<f64> = table[..15].iter().map(|v| 1.0 + v).collect();
    close(&learned.forward(&x).unwrap().to_vec::<f64>().unwrap(), &expected.repeat(2), "learned");
}

fn norms_come_first_or_last<B: Backend>(ctx: &B) {
    random::seed(2);
    let x = random(ctx, &[2, 3, 4]);
    for pre_norm in [false, true] {
        let block = TransformerEncoderBlock::new(4, 2, 8).pre_norm(pre_norm).activation(Activation::Gelu);
        crate::gradients::double(&block);
        block.initialize(Normal { sigma: 0.5 }, ctx).unwrap();
        let y = block.forward(&x).unwrap();
        let mean = y.mean(-1, false).unwrap().abs().unwrap().max((), false).unwrap().asscalar::<f64>().unwrap();
        assert_eq!(mean < 1e-9, !pre_norm, "only what is normalized last has mean 0: {mean}");
        // With both halves silent, x itself goes through.
        for (path, p) in block.collect_params().iter() {
            if path.starts_with("linear2") || path.starts_with("self_attn.out_proj") {
                p.set_data(&p.data().unwrap().zeros_like().unwrap()).unwrap();
            }
        }
        let silent = block.forward(&x).unwrap().to_vec::<f64>().unwrap();
        if pre_norm {
            assert_eq!(silent, x.to_vec::<f64>().unwrap());
        } else {
            assert_ne!(silent, x.to_vec::<f64>().unwrap());
        }
        let lengths = Tensor::from_slice(ctx, &[1i64, 1], [2]).unwrap();
        let masked = block.forward(&(x.clone(), AttentionMask::new().valid_lengths(&lengths))).unwrap();
        assert_eq!(masked.shape(), x.shape());
    }
}

fn gradients_are_those_of_differences<B: Backend>(ctx: &B) {
    random::seed(3);
    let x = random(ctx, &[2, 3, 4]);
    let lengths = Tensor::from_slice(ctx, &[2i64, 3], [2]).unwrap();
    let mask = AttentionMask::new().causal().valid_lengths(&lengths);

    let (q, k, v) = (random(ctx, &[2, 3, 2]), random(ctx, &[2, 3, 2]), random(ctx, &[2, 3, 1]));
    let attention = DotProductAttention::default();
    crate::gradients::check("dot product", |x| Ok(attention.attend(&x[0], &x[1], &x[2], &mask)?.0), &[q, k, v], None);

    let block = TransformerEncoderBlock::new(4, 2, 3).pre_norm(true).activation(Activation::Tanh);
    crate::gradients::double(&block);
    block.initialize(Normal { sigma: 0.5 }, ctx).unwrap();
    crate::gradients::check("block", |x| block.forward_masked(&x[0], &mask), &[x], Some(&block));
}

fn misuse_is_reported<B: Backend>(ctx: &B) {
    let x = Tensor::ones(ctx, [2, 3, 4], DType::F32).unwrap();
    let uneven = MultiHeadAttention::new(4, 3);
    assert!(uneven.forward(&x).unwrap_err().to_string().contains("4 units cannot be split into 3"));
    let layer = MultiHeadAttention::new(4, 2);
    layer.initialize(Normal::default(), ctx).unwrap();
    let flat = Tensor::ones(ctx, [3, 4], DType::F32).unwrap();
    assert!(matches!(layer.forward(&flat), Err(Error::InvalidShape { .. })));
    let two = Tensor::ones(ctx, [2, 2, 4], DType::F32).unwrap();
    assert!(matches!(layer.forward(&(x.clone(), x.clone(), two)), Err(Error::ShapeMismatch { .. })));
    let lengths = Tensor::from_slice(ctx, &[1i64, 2, 3], [3]).unwrap();
    let mask = AttentionMask::new().valid_lengths(&lengths);
    assert!(layer.attend(&x, &x, &x, &mask).unwrap_err().to_string().contains("[batch, queries]"));
}

fn a_causal_mask_ends_at_the_last_key<B: Backend>(ctx: &B) {
    let causal = |queries: usize, keys: usize| {
        let scores = Tensor::zeros(ctx, [1, queries, keys], DType::F64).unwrap();
        masked_softmax(&scores, &AttentionMask::new().causal()).unwrap().to_vec::<f64>().unwrap()
    };
    // One new query, and the keys of three steps before.
    assert_eq!(causal(1, 4), [0.25; 4]);
    let third = 1.0 / 3.0;
    close(&causal(2, 4), &[third, third, third, 0.0, 0.25, 0.25, 0.25, 0.25], "two of four");
    assert_eq!(causal(2, 2), [1.0, 0.0, 0.5, 0.5]);
    // Queries before the first key see nothing.
    assert_eq!(causal(3, 1), [0.0, 0.0, 1.0]);

    // Step by step with kept keys is as all at once.
    random::seed(4);
    let (q, k, v) = (random(ctx, &[2, 5, 4]), random(ctx, &[2, 5, 4]), random(ctx, &[2, 5, 3]));
    let attention = DotProductAttention::default();
    let mask = AttentionMask::new().causal();
    let all = attention.attend(&q, &k, &v, &mask).unwrap().0;
    for step in 0..5 {
        let until = |x: &Tensor<B>| x.narrow(1, 0, step + 1).unwrap();
        let one = attention.attend(&q.narrow(1, step, 1).unwrap(), &until(&k), &until(&v), &mask).unwrap().0;
        let expected = all.narrow(1, step, 1).unwrap().to_vec::<f64>().unwrap();
        close(&one.to_vec::<f64>().unwrap(), &expected, "one step");
    }
}

fn masks_of_two_axes_say_which_they_are<B: Backend>(ctx: &B) {
    let scores = Tensor::zeros(ctx, [2, 2, 3], DType::F64).unwrap();
    let mask = Tensor::from_slice(ctx, &[true, true, false, true, false, false], [2, 3]).unwrap();
    let weights = |mask: AttentionMask<B>| masked_softmax(&scores, &mask);
    let keys = weights(AttentionMask::new().allowed_keys(&mask)).unwrap().to_vec::<f64>().unwrap();
    assert_eq!(keys, [0.5, 0.5, 0.0, 0.5, 0.5, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    let error = weights(AttentionMask::new().allowed(&mask)).unwrap_err();
    assert!(matches!(error, Error::ShapeMismatch { .. }) && error.to_string().contains("allowed_keys"), "{error}");
    let queries = mask.expand_dims(0).unwrap();
    let queries = weights(AttentionMask::new().allowed(&queries)).unwrap().to_vec::<f64>().unwrap();
    assert_eq!(queries, [0.5, 0.5, 0.0, 1.0, 0.0, 0.0].repeat(2));
    // Of another batch there is no doubt.
    let one = Tensor::zeros(ctx, [3, 2, 3], DType::F64).unwrap();
    assert!(masked_softmax(&one, &AttentionMask::new().allowed(&mask)).is_ok());
    assert!(masked_softmax(&one, &AttentionMask::new().allowed_keys(&mask)).is_err());

    // With heads, a mask of keys is of the batch as well.
    random::seed(6);
    let layer = MultiHeadAttention::new(4, 2);
    crate::gradients::double(&layer);
    layer.initialize(Normal { sigma: 0.7 }, ctx).unwrap();
    let x = random(ctx, &[2, 3, 4]);
    let lengths = Tensor::from_slice(ctx, &[2i64, 1], [2]).unwrap();
    let by = |mask: AttentionMask<B>| layer.attend(&x, &x, &x, &mask).unwrap().0.to_vec::<f64>().unwrap();
    close(&by(AttentionMask::new().allowed_keys(&mask)), &by(AttentionMask::new().valid_lengths(&lengths)), "heads");

    for wrong in [-1.0f32, 1.5, f32::NAN] {
        let lengths = Tensor::from_slice(ctx, &[1.0, wrong], [2]).unwrap();
        let error = weights(AttentionMask::new().valid_lengths(&lengths)).unwrap_err().to_string();
        assert!(error.contains("masked_softmax") && error.contains(&format!("valid length {wrong}")), "{error}");
    }
}

fn large_scores_in_half_precision_are_finite<B: Backend>(ctx: &B) {
    let x = Tensor::full(ctx, [1, 2, 128], 30.0, DType::F16).unwrap();
    let v = Tensor::from_slice(ctx, &[0.0f32, 1.0], [1, 2, 1]).unwrap().cast(DType::F16).unwrap();
    let y = DotProductAttention::default().attend(&x, &x, &v, &AttentionMask::new()).unwrap().0;
    assert_eq!(y.to_vec::<half::f16>().unwrap().iter().map(|v| v.to_f32()).collect::<Vec<_>>(), [0.5, 0.5]);
}
