//! The report as one self-contained page.

use super::{Line, Report, Status};
use std::fmt::Write;

const STYLE: &str = "body{font:15px/1.4 system-ui,sans-serif;margin:1rem;max-width:70rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.2rem .5rem;border-bottom:1px solid #8884}\
.f{color:#b00020;font-weight:600;white-space:pre-wrap}.s{color:#777}.p{color:#1a7f37}\
.w{overflow-x:auto}@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}.f{color:#ff6b81}.p{color:#4ac26b}}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn cell(line: Option<&Line>) -> String {
    match line.map(|l| &l.status) {
        None => "<td class=s>not run".into(),
        Some(Status::Passed(m)) if m.share > 0.0 => format!("<td class=p>{:.3} of {:.3} ulp", m.ulp, m.bound),
        Some(Status::Passed(_)) => "<td class=p>exact".into(),
        Some(Status::Failed(f)) => format!("<td class=f>{}", escaped(&f.to_string())),
        Some(Status::Skipped(why)) => format!("<td class=s>{}", escaped(why)),
    }
}

/// One page with a row per check and a column per device.
///
/// ```
/// use isograd_conformance::{Options, Suite, report::page};
/// use isograd_reference::Reference;
/// let options = Options { filter: Some("forward_floor".into()), ..Options::default() };
/// let html = page(&[Suite::new(Reference).run(&options)]);
/// assert!(html.contains("forward_floor") && html.contains("exact"));
/// ```
pub fn page(reports: &[Report]) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
         <title>isograd conformance</title><style>{STYLE}</style><h1>isograd conformance</h1>"
    );
    for r in reports {
        let _ = write!(
            html,
            "<p><b>{}</b>: passed {}, failed {}, skipped {} in {:.1} s",
            escaped(&r.device),
            r.passed(),
            r.failed(),
            r.skipped(),
            r.seconds
        );
    }
    html += "<div class=w><table><tr><th>case<th>dtype";
    for r in reports {
        let _ = write!(html, "<th>{}", escaped(&r.device));
    }
    let mut rows: Vec<(&str, isograd_core::DType)> = Vec::new();
    for line in reports.iter().flat_map(|r| &r.lines) {
        if !rows.contains(&(line.name.as_str(), line.dtype)) {
            rows.push((&line.name, line.dtype));
        }
    }
    for (name, dtype) in rows {
        let _ = write!(html, "<tr><td>{name}<td>{dtype}");
        for r in reports {
            html += &cell(r.lines.iter().find(|l| l.name == name && l.dtype == dtype));
        }
    }
    html + "</table></div></html>\n"
}
