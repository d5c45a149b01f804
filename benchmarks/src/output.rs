//! The output of a measurement: a table or JSON, and a bar chart in an SVG file.

use std::fmt::{Display, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use crate::Result;

const WIDTH: f64 = 860.0;
const LABEL: f64 = 290.0;
const BAR: f64 = 24.0;
const GAP: f64 = 10.0;
const TOP: f64 = 44.0;
/// Pixels for the text to the right of the longest bar.
const TEXT: f64 = 150.0;

/// The form of the output.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArgs {
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Draws a bar chart of the main result into this SVG file.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

/// A measurement. `Display` writes a table, and `Serialize` gives all values as JSON.
pub(crate) trait Measurement: Display + Serialize {
    /// The main result, as bars of a chart.
    fn bars(&self) -> Vec<Bar>;
}

/// One bar of a chart. Its length is proportional to `value`.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub name: String,
    pub value: f64,
    /// The text to the right of the bar.
    pub text: String,
    /// Whether the bar shows Hwacha. Such bars have another color.
    pub is_hwacha: bool,
}

impl OutputArgs {
    /// Prints the measurement, and draws the chart if one was asked for. `title` is the title of the chart.
    pub(crate) fn give(&self, measured: &impl Measurement, title: &str) -> Result<()> {
        match self.json {
            true => println!("{}", serde_json::to_string_pretty(measured)?),
            false => println!("{measured}"),
        }
        let Some(file) = &self.chart else { return Ok(()) };
        let drawn = std::fs::write(file, svg(title, &measured.bars()));
        drawn.map_err(|error| format!("the chart cannot be written to {}: {error}", file.display()).into())
    }
}

fn svg(title: &str, bars: &[Bar]) -> String {
    let longest = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + bars.len() as f64 * (BAR + GAP) + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{GAP}\" y=\"26\" font-size=\"16\">{title}</text>\n"
    );
    for (index, bar) in bars.iter().enumerate() {
        let y = TOP + index as f64 * (BAR + GAP);
        let length = (WIDTH - LABEL - TEXT) * (bar.value / longest).max(0.0);
        let color = if bar.is_hwacha { "#c0392b" } else { "#7f8c8d" };
        let (baseline, name, text) = (y + BAR * 0.7, &bar.name, &bar.text);
        write!(
            svg,
            "<text x=\"{}\" y=\"{baseline}\" text-anchor=\"end\">{name}</text>\n\
             <rect x=\"{LABEL}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n\
             <text x=\"{:.1}\" y=\"{baseline}\">{text}</text>\n",
            LABEL - GAP,
            LABEL + length + GAP,
        )
        .expect("strings take all writes");
    }
    svg + "</svg>\n"
}
