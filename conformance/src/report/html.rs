//! The report as one self-contained page: what failed first, then operators × dtypes, a chip for each device.

use super::{Line, Report, Status};
use isograd_core::DType;
use std::fmt::Write;

const STYLE: &str = "\
:root{color-scheme:light dark;--line:#8883;--soft:#777;--good:#1a7f37;--bad:#b00020;--paper:#fff}\
@media(prefers-color-scheme:dark){:root{--good:#4ac26b;--bad:#ff6b81;--soft:#999;--paper:#121212}}\
*{box-sizing:border-box}\
body{font:15px/1.45 system-ui,sans-serif;margin:0 auto;padding:1rem;max-width:75rem;background:var(--paper)}\
h1{font-size:1.5rem;margin:.2rem 0 1rem}h2{font-size:1.1rem;margin:1.6rem 0 .4rem}\
p{margin:.3rem 0}small,.s{color:var(--soft)}\
.d{display:flex;flex-wrap:wrap;gap:.7rem}\
.d div{border:1px solid var(--line);border-radius:.5rem;padding:.5rem .8rem;flex:1 1 16rem}\
.w{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem}\
table{border-collapse:collapse;font-size:.85rem;width:100%;font-variant-numeric:tabular-nums}\
td,th{text-align:left;padding:.25rem .5rem;border-bottom:1px solid var(--line);white-space:nowrap}\
tr:last-child td{border-bottom:0}\
th:first-child,td:first-child{position:sticky;left:0;background:var(--paper)}\
.p{color:var(--good)}.f{color:var(--bad);font-weight:600}\
td div+div{border-top:1px dotted var(--line)}\
pre{overflow-x:auto;border-left:3px solid var(--bad);padding:.4rem .7rem;margin:.5rem 0;font-size:.8rem}";

/// Groups of cases, by the first word of their names.
const GROUPS: &[(&str, &str, &str)] = &[
    ("forward_", "Operators", "results against the oracle: the worst error and its bound, in units of the last place"),
    ("gradient_", "Gradients", "against the oracle's: inputs used twice, through views and other backends, added up"),
    (
        "difference_",
        "Differences",
        "gradients of first and second order against central differences along random directions",
    ),
    (
        "kinks_",
        "Kinks",
        "gradients at kinks, ties, 0 and the ends of domains, between one-sided differences or as stated",
    ),
    ("primitive_", "Primitives", "the methods of Backend themselves, on any layout, between guards"),
    ("network_", "Networks", "20 steps of training: losses against the reference's, in rounding errors of a loss of 1"),
    ("semantics_", "Semantics", "what is not numbers"),
];

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

/// Three digits, as short as they are.
fn short(v: f64) -> String {
    if v >= 1e5 {
        return format!("{v:.1e}");
    }
    let digits = if v >= 100.0 { 0 } else { 2 };
    let text = format!("{v:.digits$}");
    if digits > 0 { text.trim_end_matches('0').trim_end_matches('.').into() } else { text }
}

fn chip(line: Option<&Line>) -> String {
    match line.map(|l| &l.status) {
        None => "<div class=s>&nbsp;</div>".into(),
        Some(Status::Passed(m)) if m.share > 0.0 => {
            let title = format!("{} elements, {} open", m.elements, m.open);
            format!("<div class=p title='{title}'>{} <span class=s>of {}</span></div>", short(m.ulp), short(m.bound))
        }
        Some(Status::Passed(m)) if m.elements > 0 => {
            format!("<div class=p title='{} elements'>exact</div>", m.elements)
        }
        Some(Status::Passed(_)) => "<div class=p>holds</div>".into(),
        Some(Status::Failed(_)) => "<div class=f>FAILED</div>".into(),
        Some(Status::Skipped(why)) => format!("<div class=s title='{}'>skipped</div>", escaped(why)),
    }
}

fn find<'a>(report: &'a Report, name: &str, dtype: DType) -> Option<&'a Line> {
    report.lines.iter().find(|l| l.name == name && l.dtype == dtype)
}

fn group(html: &mut String, reports: &[Report], (prefix, title, about): (&str, &str, &str)) {
    let mut names: Vec<&str> = Vec::new();
    let mut dtypes: Vec<DType> = Vec::new();
    for line in reports.iter().flat_map(|r| &r.lines).filter(|l| l.name.starts_with(prefix)) {
        if !names.contains(&line.name.as_str()) {
            names.push(&line.name);
        }
        if !dtypes.contains(&line.dtype) {
            dtypes.push(line.dtype);
        }
    }
    if names.is_empty() {
        return;
    }
    dtypes.sort_by_key(|d| DType::ALL.iter().position(|e| e == d));
    let _ = write!(html, "<h2>{title}</h2><p><small>{about}</small></p><div class=w><table><tr><th>");
    dtypes.iter().for_each(|d| *html += &format!("<th>{d}"));
    for name in names {
        let _ = write!(html, "<tr><td>{}", escaped(&name[prefix.len()..]));
        for &dtype in &dtypes {
            *html += "<td>";
            reports.iter().for_each(|r| *html += &chip(find(r, name, dtype)));
        }
    }
    *html += "</table></div>";
}

/// One page for all reports: failures in full, then a row per case and a column per dtype, each cell with a line per
/// device, then what was skipped and why.
///
/// ```
/// use isograd_conformance::{Options, Suite, report::page};
/// use isograd_reference::Reference;
/// let options = Options { filter: Some("forward_floor".into()), ..Options::default() };
/// let html = page(&[Suite::new(Reference).run(&options)]);
/// assert!(html.contains("floor") && html.contains("exact"));
/// ```
pub fn page(reports: &[Report]) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8>\
         <meta name=viewport content='width=device-width,initial-scale=1'>\
         <title>isograd conformance</title><style>{STYLE}</style><h1>isograd conformance</h1><div class=d>"
    );
    for r in reports {
        let (failed, class) = (r.failed(), if r.failed() > 0 { "f" } else { "p" });
        let _ = write!(
            html,
            "<div><b>{}</b><p class={class}>passed {}, failed {failed}, skipped {}</p><small>{:.1} s</small></div>",
            escaped(&r.device),
            r.passed(),
            r.skipped(),
            r.seconds
        );
    }
    html += "</div>";
    if reports.len() > 1 {
        let names: Vec<String> = reports.iter().map(|r| escaped(&r.device)).collect();
        let _ = write!(html, "<p><small>Each cell has a line per device: {}.</small></p>", names.join(", "));
    }
    let failures = reports.iter().flat_map(|r| r.lines.iter().map(move |l| (r, l)));
    for (r, line) in failures {
        if let Status::Failed(failure) = &line.status {
            let head = format!("{}: {} on {}", escaped(&r.device), escaped(&line.name), line.dtype);
            let _ = write!(html, "<h2 class=f>{head}</h2><pre>{}</pre>", escaped(&failure.to_string()));
        }
    }
    GROUPS.iter().for_each(|g| group(&mut html, reports, *g));
    let mut reasons: Vec<(String, usize)> = Vec::new();
    for (r, line) in reports.iter().flat_map(|r| r.lines.iter().map(move |l| (r, l))) {
        if let Status::Skipped(why) = &line.status {
            let reason = format!("{}: {}", r.device, why);
            match reasons.iter_mut().find(|(known, _)| *known == reason) {
                Some((_, count)) => *count += 1,
                None => reasons.push((reason, 1)),
            }
        }
    }
    if !reasons.is_empty() {
        html += "<h2>Skipped</h2>";
        reasons.iter().for_each(|(why, n)| html += &format!("<p>{n} × {}</p>", escaped(why)));
    }
    html + "</html>\n"
}
