//! The distributions of the hand-off between processes, as a picture: a curve for each method of
//! locking, on a logarithmic axis of time, with its median beside it.
//!
//! It has no background, and colours that stand out from a light page as from a dark one.

use std::error::Error;

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::{Row, Section};
use crate::{handoff, peers};

const WIDTH: u32 = 900;
/// How tall a curve is at most, with the space above it.
const LINE: u32 = 44;
const HEADING: u32 = 34;
const TIMES: u32 = 30;
const NAMES: u32 = 240;
const MEDIANS: u32 = 90;

const TEXT: RGBColor = RGBColor(122, 122, 122);
const SYSTEM: RGBColor = RGBColor(138, 104, 200);
const RUST: RGBColor = RGBColor(56, 139, 253);
const OURS: RGBColor = RGBColor(46, 160, 67);
const OTHERS: RGBColor = RGBColor(219, 109, 40);

/// The axis, in nanoseconds.
const FROM: f64 = 1e3;
const TO: f64 = 1e9;

/// Those shown, in the order of their sections.
fn shown(sections: &[Section]) -> Vec<(&Row, RGBColor)> {
    let rows = |title| {
        let section = sections
            .iter()
            .filter(move |section| section.title == title);
        section.flat_map(|section| &section.rows)
    };
    let native = rows(handoff::BETWEEN_PROCESSES).filter_map(|row| {
        let color = match row.name.as_str() {
            handoff::FLOCK => SYSTEM,
            "fs4" => RUST,
            handoff::BLOCKING | handoff::TIMEOUT | handoff::ASYNC => OURS,
            _ => return None,
        };
        Some((row, color))
    });
    // The first is ours once more.
    let others = rows(peers::HAND_OFF).skip(1).map(|row| (row, OTHERS));
    native.chain(others).collect()
}

/// The picture, as SVG; none where nothing was measured that it shows.
pub(crate) fn draw(sections: &[Section]) -> Option<String> {
    let rows = shown(sections);
    let mut picture = String::new();
    paint(&mut picture, &rows).expect("drawing into memory");
    (!rows.is_empty()).then_some(picture)
}

fn paint<'a>(
    picture: &'a mut String,
    rows: &[(&Row, RGBColor)],
) -> Result<(), Box<dyn Error + 'a>> {
    let count = rows.len();
    let size = (WIDTH, HEADING + LINE * count as u32 + TIMES);
    let area = SVGBackend::with_string(picture, size).into_drawing_area();
    let text = |size, color: RGBColor, side| {
        let style = TextStyle::from(("sans-serif", size).into_font());
        TextStyle {
            color: color.to_backend_color(),
            ..style.pos(Pos::new(side, VPos::Center))
        }
    };
    area.draw_text(
        "From the release in one process to the next owner running in another",
        &text(17, TEXT, HPos::Left),
        (16, 17),
    )?;
    let side = WIDTH as i32 - 16;
    area.draw_text("median", &text(13, TEXT, HPos::Right), (side, 17))?;

    let mut chart = ChartBuilder::on(&area)
        .margin_top(HEADING)
        .margin_right(MEDIANS)
        .y_label_area_size(NAMES)
        .x_label_area_size(TIMES)
        .build_cartesian_2d((FROM..TO).log_scale(), 0.0..count as f64)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_max_light_lines(0)
        .bold_line_style(TEXT.mix(0.3))
        .axis_style(TEXT.mix(0.3))
        .x_label_style(text(13, TEXT, HPos::Center))
        .x_label_formatter(&|nanos| match *nanos {
            t if t < 1e6 => format!("{} µs", t / 1e3),
            t if t < 1e9 => format!("{} ms", t / 1e6),
            t => format!("{} s", t / 1e9),
        })
        .draw()?;
    for (index, (row, color)) in rows.iter().enumerate() {
        let base = (count - index) as f64 - 0.9;
        let curve = density(row.samples.values());
        let curve: Vec<_> = curve.map(|(time, y)| (time, base + 0.75 * y)).collect();
        let median = row.samples.percentile(50);
        let marker = [(median, base - 0.05), (median, base + 0.75)];
        chart.draw_series([
            Polygon::new(curve.clone(), color.mix(0.4)).into_dyn(),
            PathElement::new(curve, color).into_dyn(),
            PathElement::new(marker, color.stroke_width(2)).into_dyn(),
        ])?;
        let name = Text::new(row.name.clone(), (-14, -12), text(14, TEXT, HPos::Right));
        chart.draw_series([EmptyElement::at((FROM, base)) + name])?;
        let median = Text::new(
            row.median(),
            (MEDIANS as i32 - 16, -12),
            text(14, *color, HPos::Right),
        );
        chart.draw_series([EmptyElement::at((TO, base)) + median])?;
    }
    area.present()?;
    Ok(())
}

/// How dense the samples are along the axis, as a share of the most, where there are any.
fn density(samples: &[f64]) -> impl Iterator<Item = (f64, f64)> {
    /// Decades to either side that a sample is spread over.
    const SPREAD: f64 = 0.05;
    const STEPS: i32 = 40;
    let logs: Vec<_> = samples.iter().map(|sample| sample.log10()).collect();
    let (first, last) = (FROM.log10() as i32 * STEPS, TO.log10() as i32 * STEPS);
    let points = (first..=last).map(|step| f64::from(step) / f64::from(STEPS));
    let dense = |at: f64| {
        let bell = |log: &f64| (-0.5 * ((log - at) / SPREAD).powi(2)).exp();
        logs.iter().map(bell).sum::<f64>()
    };
    let curve: Vec<_> = points.map(|at| (at, dense(at))).collect();
    let most = curve.iter().map(|(_, dense)| *dense).fold(0.0, f64::max);
    curve
        .into_iter()
        .map(move |(at, dense)| (10_f64.powf(at), dense / most))
        .filter(|(_, share)| *share > 0.002)
}
