//! placeholder
#[derive(clap::Args)] pub struct Options {}
pub async fn run(_: Options, _: impl Future<Output=&'static str>) -> anyhow::Result<()> { Ok(()) }
