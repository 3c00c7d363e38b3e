//! Numbers as Python prints them, which is how Gluon prints layers.

/// `1e-05`, `0.9`, `1.0`.
pub(super) fn float(x: f64) -> String {
    if x != 0.0 && !(1e-4..1e16).contains(&x.abs()) {
        let text = format!("{x:e}");
        let Some((digits, exponent)) = text.split_once('e') else { return text };
        let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
        return format!("{digits}e{sign}{size:0>2}");
    }
    format!("{x:?}")
}

/// `True` or `False`.
pub(super) fn bool(b: bool) -> &'static str {
    if b { "True" } else { "False" }
}

#[cfg(test)]
mod tests {
    #[test]
    fn floats_print_as_in_python() {
        assert_eq!(
            [1e-5, 0.9, 1.0, 0.0, 0.0001, 2.5e-7].map(super::float),
            ["1e-05", "0.9", "1.0", "0.0", "0.0001", "2.5e-07"]
        );
    }
}
