//! Settings of apt for RUN steps: nothing that differs between two runs, or is of no use later, stays in a layer.

/// Where RUN steps find the text of [`apt_conf`]; `APT_CONFIG` must name it. Below `/run`, so that no image
/// keeps it.
pub const APT_CONF: &str = "/run/raptor/apt.conf";

/// The settings. Package lists stay in the image, because files of users run `apt-get update` in one layer and
/// `apt-get install` in a later one.
pub fn apt_conf() -> &'static str {
    r#"// Downloads are used once. apt makes missing directories only in its cache directory, which must exist;
// the one of this file does.
Dir::Cache "/run/raptor";
Dir::Cache::archives "apt/archives";
// Caches of lists are faster to make than to keep, and their bytes differ from run to run.
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
// Logs hold times.
Dir::Log::Terminal "/dev/null";
Dir::Log::History "/dev/null";
Dir::Log::Planner "/dev/null";
DPkg::Options { "--log=/dev/null"; "--force-unsafe-io"; };
DPkg::Use-Pty "false";
// Lists as they come from the mirror: compressed, in one language, whole.
Acquire::GzipIndexes "true";
Acquire::IndexTargets::deb::Packages::KeepCompressedAs "xz gz zst lz4";
Acquire::IndexTargets::deb-src::Sources::KeepCompressedAs "xz gz zst lz4";
Acquire::Languages "none";
Acquire::PDiffs "false";
// A recorded answer is as good as on its first day.
Acquire::Check-Valid-Until "false";
Acquire::Check-Date "false";
"#
}
