//! The training curve as SVG. The SVG backend of plotters needs neither fonts nor a system library.

use plotters::prelude::*;
use std::{error::Error, path::Path};

/// What is drawn of one epoch.
pub struct Point {
    pub loss: f64,
    pub train_accuracy: f64,
    pub test_accuracy: f64,
}

/// Draws the loss (left axis) and the accuracies (right axis) over the epochs.
pub fn training_curve(file: &Path, curve: &[Point]) -> Result<(), Box<dyn Error>> {
    // Whole numbers, so that the axis has no half epochs.
    let last = curve.len().max(2) as u32;
    let top = curve.iter().map(|p| p.loss).filter(|l| l.is_finite()).fold(1e-3, f64::max) * 1.05;
    let lowest = curve.iter().map(|p| p.train_accuracy.min(p.test_accuracy)).fold(1.0, f64::min);
    let over_epochs =
        |f: fn(&Point) -> f64| -> Vec<(u32, f64)> { (1..).zip(curve).map(|(epoch, p)| (epoch, f(p))).collect() };

    let area = SVGBackend::new(file, (800, 500)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .caption("LeNet", ("sans-serif", 28))
        .margin(16)
        .x_label_area_size(56)
        .y_label_area_size(76)
        .right_y_label_area_size(76)
        .build_cartesian_2d(1..last, 0.0..top)?
        .set_secondary_coord(1..last, (lowest - 0.02)..1.0);
    let (letters, titles) = (("sans-serif", 18), ("sans-serif", 20));
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(9)
        .y_labels(6)
        .y_label_formatter(&|loss| format!("{loss:.2}"))
        .label_style(letters)
        .axis_desc_style(titles)
        .x_desc("epoch")
        .y_desc("loss")
        .draw()?;
    chart
        .configure_secondary_axes()
        .y_labels(6)
        .y_label_formatter(&|accuracy| format!("{accuracy:.2}"))
        .label_style(letters)
        .axis_desc_style(titles)
        .y_desc("accuracy")
        .draw()?;

    let key = |color: RGBColor| move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2));
    let loss = LineSeries::new(over_epochs(|p| p.loss), BLACK.stroke_width(2));
    chart.draw_series(loss)?.label("loss").legend(key(BLACK));
    for (name, color, values) in [
        ("train accuracy", BLUE, over_epochs(|p| p.train_accuracy)),
        ("test accuracy", RED, over_epochs(|p| p.test_accuracy)),
    ] {
        let series = LineSeries::new(values, color.stroke_width(2));
        chart.draw_secondary_series(series)?.label(name).legend(key(color));
    }
    let position = SeriesLabelPosition::MiddleRight;
    chart
        .configure_series_labels()
        .position(position)
        .label_font(letters)
        .border_style(BLACK)
        .background_style(WHITE.mix(0.8))
        .draw()?;
    area.present()?;
    Ok(())
}
