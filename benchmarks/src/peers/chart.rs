//! The totals as bars, in SVG.

use std::fmt::Write;

use super::engine::EngineName;
use super::standing::Report;

const WIDTH: f64 = 760.0;
const LABEL: f64 = 190.0;
const BAR: f64 = 24.0;
const GAP: f64 = 10.0;
const TOP: f64 = 44.0;
/// Room for the number behind the longest bar.
const NUMBER: f64 = 150.0;

/// One bar an engine, the fastest first.
pub(super) fn svg(report: &Report, suite: &str, scale: f64) -> String {
    let mut totals = report.totals.clone();
    totals.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let longest = totals.iter().map(|total| total.seconds).fold(f64::MIN_POSITIVE, f64::max);
    let height = TOP + totals.len() as f64 * (BAR + GAP) + GAP;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"14\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{GAP}\" y=\"26\" font-size=\"16\">{suite}, scale {scale}: seconds for the queries that all answered</text>\n"
    );
    for (index, total) in totals.iter().enumerate() {
        let y = TOP + index as f64 * (BAR + GAP);
        let length = (WIDTH - LABEL - NUMBER) * total.seconds / longest;
        let color = if total.engine == EngineName::Hwacha { "#c0392b" } else { "#7f8c8d" };
        let (text, failed) = (y + BAR * 0.7, report.wrong(total.engine));
        let failed = if failed == 0 { String::new() } else { format!(" ({failed} failed)") };
        write!(
            svg,
            "<text x=\"{}\" y=\"{text}\" text-anchor=\"end\">{}</text>\n\
             <rect x=\"{LABEL}\" y=\"{y}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{color}\"/>\n\
             <text x=\"{:.1}\" y=\"{text}\">{:.1} s{failed}</text>\n",
            LABEL - GAP,
            total.engine,
            LABEL + length + GAP,
            total.seconds,
        )
        .expect("strings take all writes");
    }
    svg + "</svg>\n"
}
