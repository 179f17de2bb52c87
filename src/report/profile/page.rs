//! The page of a profile, without scripts or links to anything outside itself.

use super::ProfileReport;
use crate::report::Ceiling;
use crate::report::escape::escape;
use crate::report::html::{facts, figure, frame, section, tiles};
use crate::report::number::duration;
use crate::report::plot::{Roofline, RooflinePoint};

/// The whole page.
pub(super) fn page(report: &ProfileReport) -> String {
    let title = format!("lea {}, profiled", report.step);
    let timed = match report.by_device {
        true => "Every launch was timed by the device's own clock.",
        false => "Every op was timed by the host's clock, the device waited for ahead of it and behind it.",
    };
    let body = [head(report), plots(report), kernels(report)].concat();
    frame(&title, timed, &body)
}

fn head(report: &ProfileReport) -> String {
    let of_all = |seconds: f64| format!("{:.1} %", 100.0 * seconds / report.seconds.max(f64::MIN_POSITIVE));
    let mut shown = vec![
        (duration(report.seconds), "wall time".to_string()),
        (of_all(report.kernel_seconds), "in kernels".into()),
        (of_all(report.outside_seconds), "outside kernels".into()),
    ];
    if let Some(first) = report.kernels.first().filter(|first| first.bound.is_some()) {
        let (limit, share) = Ceiling::nearest([first.share_of_compute, first.share_of_memory]);
        let label = format!("of the limit of {}, reached by {}", limit.name(), first.kernel);
        shown.push((format!("{:.0} %", 100.0 * share), label));
    }
    let mut told = vec![
        ("command", report.command_line.join(" ")),
        ("device", report.machine()),
        ("limits", report.ceiling.line()),
    ];
    told.extend(report.revision.iter().map(|revision| ("revision", revision.clone())));
    told.extend(report.stopped.iter().map(|place| ("stopped", place.clone())));
    tiles(&shown) + &facts(told.iter().map(|(name, value)| (*name, value.as_str())))
}

fn plots(report: &ProfileReport) -> String {
    let point = |kernel: &super::KernelFigures| RooflinePoint {
        name: kernel.kernel.clone(),
        intensity: kernel.flops / kernel.bytes,
        gflops: kernel.gflops,
        share: kernel.share,
    };
    let roofline =
        Roofline { ceiling: report.ceiling.clone(), points: report.kernels.iter().map(point).collect() };
    let mut out = String::new();
    if !roofline.is_empty() {
        let note = "A dot is a kernel, its area the share of all kernels' time; under the pointer it tells its figures. Below the \
                    slope memory bounds it, below the flat part arithmetic in that type; a thin line is what a large product \
                    reaches. All limits were measured in the same run; what caches serve can lie above the slope. Kernels of \
                    less than 0.1 % of that time are left out";
        let untold = untold(report)
            .map_or(String::new(), |untold| format!(", and such as do not tell their work: {untold}"));
        let plot = full_width(&figure("FLOP/s over FLOPs a byte", &roofline.svg()));
        out.push_str(&section(
            "Roofline",
            &format!("<p>{}.</p>\n{plot}", escape(&format!("{note}{untold}"))),
        ));
    }
    let inside = match report.by_device {
        true => "A stage is as wide as it took, what is inside it as wide as its kernels took.",
        false => "A part is as wide as it took.",
    };
    let note = format!(
        "<p>{inside} What no part covers is time of the part above it. Equal parts of a stage stand together. Under the pointer a part \
         tells its name, time and share of the wall time.</p>\n"
    );
    let flame = full_width(&figure("Stages", &report.flame.svg("flame of stages")));
    out + &section("Where the time went", &(note + &flame + &report.stage_table().to_html()))
}

fn kernels(report: &ProfileReport) -> String {
    let note = "FLOPs and bytes are the least that the ops need; a dash stands where they do not tell. Shares of both limits \
                stand beside each other, that of compute against the limit of the types in which the kernel computes. The \
                larger names what bounds the kernel; below a quarter of both neither does: latency, the start of launches and \
                waiting take the time.";
    let remark = report.remark().map_or(String::new(), |remark| format!("<p>{}.</p>\n", escape(&remark)));
    let title = if report.by_device { "Kernels" } else { "Ops" };
    section(title, &format!("<p>{}</p>\n{remark}{}", escape(note), report.kernel_table().to_html()))
}

fn full_width(figure: &str) -> String {
    format!("<div class=\"full\">{figure}</div>\n")
}

/// Kernels that took a share worth telling and whose work is not known, each with that share.
fn untold(report: &ProfileReport) -> Option<String> {
    let untold = report.kernels.iter().filter(|kernel| kernel.bound.is_none() && kernel.share >= 1e-3);
    let said: Vec<String> =
        untold.map(|kernel| format!("{} ({:.1} %)", kernel.kernel, 100.0 * kernel.share)).collect();
    (!said.is_empty()).then(|| said.join(", "))
}
