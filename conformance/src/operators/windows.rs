//! Rows of convolution and pooling.

use super::{INSIDE, REAL, Rows};
use isograd_core::operators::{ConvOptions, PoolOptions};

pub(super) fn windows(t: &mut Rows) {
    let options = |stride: &[usize], padding: &[usize], dilation: &[usize], groups: usize| ConvOptions {
        stride: stride.to_vec(),
        padding: padding.to_vec(),
        dilation: dilation.to_vec(),
        groups,
        ..ConvOptions::default()
    };
    let convs: Vec<(&[usize], &[usize], ConvOptions)> = vec![
        (&[2, 2, 5], &[3, 2, 2], options(&[1], &[0], &[1], 1)),
        (&[1, 2, 6], &[2, 1, 3], options(&[2], &[1], &[1], 2)),
        (&[1, 1, 7], &[1, 1, 2], options(&[2], &[2], &[3], 1)),
        (&[2, 2, 4, 3], &[2, 2, 2, 2], options(&[1], &[1], &[1], 1)),
        (&[1, 2, 5, 4], &[2, 2, 3, 2], options(&[2, 1], &[1, 0], &[1, 2], 1)),
        (&[1, 4, 3, 3], &[4, 1, 2, 2], options(&[1], &[0], &[1], 4)),
        (&[1, 4, 4, 4], &[2, 2, 3, 3], options(&[2], &[1], &[1], 2)),
        (&[1, 2, 3, 3], &[2, 2, 1, 1], options(&[2], &[0], &[1], 1)),
        (&[1, 1, 3, 3, 2], &[2, 1, 2, 2, 2], options(&[1], &[0, 1, 0], &[1], 1)),
        (&[1, 2, 3, 4, 3], &[2, 1, 2, 2, 2], options(&[2, 1, 1], &[1], &[1, 2, 1], 2)),
        (&[0, 2, 5], &[3, 2, 2], options(&[1], &[0], &[1], 1)),
    ];
    for (x, w, o) in &convs {
        let bias = [w[0]];
        let (o, o2) = (o.clone(), o.clone());
        t.add("conv", format!("{x:?} {w:?} {o:?}"), &[(x, REAL), (w, REAL), (&bias, REAL)], move |t| {
            t[0].conv(&t[1], Some(&t[2]), &o)
        });
        t.add("conv", format!("{x:?} {w:?}, into a nonlinear function"), &[(x, INSIDE), (w, INSIDE)], move |t| {
            t[0].conv(&t[1], None, &o2)?.tanh()
        });
    }
    t.add("conv", "of views", &[(&[4, 3, 1, 2], REAL), (&[2, 2, 2, 3], REAL)], |t| {
        t[0].transpose(&[2, 3, 0, 1])?.conv(
            &t[1].transpose(&[3, 2, 0, 1])?.slice(2, None, None, -1)?,
            None,
            &ConvOptions::default(),
        )
    });
    type Transposed<'a> = (&'a [usize], &'a [usize], ConvOptions, &'a [usize]);
    let transposed: Vec<Transposed<'_>> = vec![
        (&[2, 2, 3], &[2, 3, 2], options(&[1], &[0], &[1], 1), &[0]),
        (&[1, 2, 3], &[2, 1, 3], options(&[3], &[1], &[1], 2), &[2]),
        (&[1, 2, 3, 2], &[2, 2, 2, 3], options(&[2, 3], &[0, 1], &[1], 1), &[1, 2]),
        (&[1, 2, 2, 3], &[2, 1, 2, 2], options(&[1, 2], &[1], &[2], 2), &[0, 1]),
        (&[1, 2, 2, 2, 2], &[2, 1, 2, 1, 2], options(&[2, 1, 1], &[0], &[1], 1), &[1, 0, 0]),
    ];
    for (x, w, o, extra) in transposed {
        let o = ConvOptions { output_padding: extra.to_vec(), ..o };
        let bias = [w[1] * o.groups];
        let (o, o2) = (o.clone(), o);
        t.add("conv_transpose", format!("{x:?} {w:?}"), &[(x, REAL), (w, REAL), (&bias, REAL)], move |t| {
            t[0].conv_transpose(&t[1], Some(&t[2]), &o)
        });
        t.add("conv_transpose", format!("{x:?} {w:?}, squared"), &[(x, INSIDE), (w, INSIDE)], move |t| {
            t[0].conv_transpose(&t[1], None, &o2)?.square()
        });
    }
    let pool = |kernel: &[usize], stride: &[usize], padding: &[usize], ceil_mode, count_include_pad| PoolOptions {
        kernel: kernel.to_vec(),
        stride: stride.to_vec(),
        padding: padding.to_vec(),
        ceil_mode,
        count_include_pad,
    };
    let pools: Vec<(&[usize], PoolOptions)> = vec![
        (&[2, 2, 5], pool(&[2], &[], &[0], false, true)),
        (&[1, 2, 6], pool(&[3], &[2], &[1], true, true)),
        (&[1, 1, 5, 4], pool(&[2, 3], &[2, 1], &[1], false, true)),
        (&[1, 1, 5, 4], pool(&[3], &[2], &[1], true, false)),
        (&[1, 1, 5, 5], pool(&[2, 3], &[2], &[0, 1], true, true)),
        (&[1, 1, 5, 5], pool(&[3], &[1], &[1], false, false)),
        // A last window would begin behind the input, and is none.
        (&[1, 1, 5, 5], pool(&[2], &[2], &[1], true, true)),
        (&[1, 2, 4], pool(&[3], &[3], &[1], true, false)),
        (&[1, 1, 3, 4, 3], pool(&[2], &[1, 2, 1], &[1, 0, 1], true, false)),
        (&[0, 2, 5], pool(&[2], &[], &[0], false, true)),
    ];
    for (x, o) in pools {
        let (a, b, label) = (o.clone(), o.clone(), format!("{x:?} {o:?}"));
        t.add("max_pool", label.clone(), &[(x, REAL)], move |t| t[0].max_pool(&a)?.square());
        t.add("avg_pool", label, &[(x, REAL)], move |t| t[0].avg_pool(&b)?.square());
    }
    for x in [&[2, 2, 4][..], &[1, 2, 2, 3], &[1, 2, 2, 2, 2]] {
        t.add("global_max_pool", format!("{x:?}"), &[(x, REAL)], |t| t[0].global_max_pool()?.square());
        t.add("global_avg_pool", format!("{x:?}"), &[(x, REAL)], |t| t[0].global_avg_pool()?.square());
    }
    for sizes in [&[2][..], &[3, 2], &[1, 5]] {
        t.add("adaptive_avg_pool", format!("{sizes:?}"), &[(&[1, 1, 5, 4], REAL)], move |t| {
            t[0].adaptive_avg_pool(sizes)?.square()
        });
        t.add("adaptive_max_pool", format!("{sizes:?}"), &[(&[1, 1, 5, 4], REAL)], move |t| {
            t[0].adaptive_max_pool(sizes)?.square()
        });
    }
    let o = options(&[2, 1], &[1], &[1, 2], 1);
    let o2 = o.clone();
    t.add("unfold", "", &[(&[1, 2, 4, 3], REAL)], move |t| t[0].exp()?.unfold(&[2, 2], &o)?.square());
    t.add("unfold", "one axis", &[(&[2, 2, 4], REAL)], |t| t[0].unfold(&[3], &ConvOptions::default()));
    t.add("fold", "", &[(&[1, 8, 9], REAL)], move |t| t[0].exp()?.fold_windows(&[4, 3], &[2, 2], &o2)?.square());
    t.add("fold", "one axis", &[(&[2, 6, 2], REAL)], |t| t[0].fold_windows(&[4], &[3], &ConvOptions::default()));
}
