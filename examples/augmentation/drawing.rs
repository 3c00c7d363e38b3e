//! The picture `data/pictures/lighthouse.png`, drawn by rule: no side is like another, and every colour is there.

use isograd::{Result, nn::data::vision::Image};

const WIDTH: usize = 160;
const HEIGHT: usize = 120;

/// What is at (x, y), counted in pixels from the upper left.
fn color(x: f64, y: f64) -> [f64; 3] {
    let within = |left: f64, right: f64, top: f64, bottom: f64| x >= left && x < right && y >= top && y < bottom;
    let distance = |cx: f64, cy: f64| (x - cx).hypot(y - cy);
    let horizon = 78.0;
    // The tower becomes wider towards its foot.
    let half = 7.0 + (y - 30.0) * 0.07;
    if within(108.0 - half, 108.0 + half, 30.0, 92.0) {
        let band = ((y - 30.0) / 12.4) as usize;
        let shade = 1.0 - 0.35 * ((x - 108.0 + half) / (2.0 * half));
        return if band.is_multiple_of(2) { [235.0, 235.0, 230.0] } else { [205.0, 40.0, 45.0] }.map(|c| c * shade);
    }
    if within(103.0, 113.0, 20.0, 30.0) {
        return [255.0, 240.0, 120.0];
    }
    if (13.0..20.0).contains(&y) && (x - 108.0).abs() < y - 12.0 {
        return [60.0, 60.0, 75.0];
    }
    if distance(112.0, 128.0) < 42.0 && y > 84.0 {
        let grain = ((x * 0.9).sin() + (y * 1.3).cos()) * 8.0;
        return [98.0 + grain, 92.0 + grain, 84.0 + grain];
    }
    if within(20.0, 56.0, 84.0, 92.0) && x > 20.0 + (y - 84.0) && x < 56.0 - (y - 84.0) {
        return [120.0, 70.0, 30.0];
    }
    if (52.0..83.0).contains(&y) && x >= 38.0 && x < 38.0 + (y - 52.0) * 0.5 {
        return [250.0, 250.0, 250.0];
    }
    if (56.0..83.0).contains(&y) && x < 36.0 && x >= 36.0 - (y - 56.0) * 0.45 {
        return [60.0, 160.0, 90.0];
    }
    if y < horizon {
        if distance(34.0, 24.0) < 13.0 {
            return [255.0, 205.0, 70.0];
        }
        let high = 1.0 - y / horizon;
        return [205.0 - 110.0 * high, 225.0 - 70.0 * high, 245.0 - 20.0 * high];
    }
    let deep = (y - horizon) / (HEIGHT as f64 - horizon);
    let wave = 12.0 * ((x * 0.25 + y * 0.8).sin() * (y * 0.9).cos());
    [20.0 + wave, 100.0 - 45.0 * deep + wave, 150.0 - 50.0 * deep + wave]
}

/// Draws the picture. Each pixel is the mean of 16 points of it.
pub fn draw() -> Result<Image> {
    let mut image = Image::filled(WIDTH, HEIGHT, &[0; 3])?;
    for (x, y) in (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y))) {
        let points = (0..16).map(|k| color(x as f64 + (k % 4) as f64 / 4.0, y as f64 + (k / 4) as f64 / 4.0));
        let sum = points.fold([0.0; 3], |sum, c| [sum[0] + c[0], sum[1] + c[1], sum[2] + c[2]]);
        image.set_pixel(x, y, &sum.map(|c| (c / 16.0) as u8));
    }
    Ok(image)
}
