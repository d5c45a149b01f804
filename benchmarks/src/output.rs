//! How what was measured is given: as a table or as JSON, and as bars in an SVG file.

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
/// Room for the text behind the longest bar.
const TEXT: f64 = 150.0;

/// The form of what is given.
#[derive(Args, Clone, Debug)]
pub(crate) struct OutputArgs {
    /// Prints JSON in place of a table.
    #[arg(long)]
    json: bool,
    /// Draws the gist into this SVG file.
    #[arg(long, value_name = "FILE")]
    chart: Option<PathBuf>,
}

/// What was measured: a table as text, and all there is as JSON.
pub(crate) trait Measurement: Display + Serialize {
    /// The gist.
    fn bars(&self) -> Vec<Bar>;
}

/// One bar of a chart, as long as its value says.
#[derive(Clone, Debug)]
pub(crate) struct Bar {
    pub name: String,
    pub value: f64,
    /// What stands behind it.
    pub text: String,
    /// Whether it is Hwacha's, where others stand beside it.
    pub is_hwacha: bool,
}

impl OutputArgs {
    /// Prints and draws; `title` stands above the bars.
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
