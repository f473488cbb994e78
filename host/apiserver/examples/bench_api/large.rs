//! Many objects: whether start-up, memory and lists stay linear.

use crate::Result;
use crate::load::{Request, connections, drive, millis};
use crate::objects::{self, COLLECTION};
use crate::{CONNECTIONS, GZIP, atoll};
use std::path::Path;

const STEPS: [usize; 4] = [5_000, 25_000, 50_000, 100_000];
const LISTS: usize = 10;

pub(crate) async fn measure(program: &Path, place: &Path) -> Result<String> {
    let mut text = String::from(
        "\n| objects | create /s |  p99 ms | MiB | again: start s | MiB | list ms | CPU ms | gzip ms |\n\
         | ------: | --------: | ------: | --: | -------------: | --: | ------: | -----: | ------: |\n",
    );
    let mut there = 0;
    for step in STEPS {
        let mut running = atoll::start(program, place).await?;
        if there == 0 {
            objects::namespace(&running.target).await?;
        }
        let mut clients = connections(&running.target, CONNECTIONS).await?;
        let create = |i| objects::create(there + i);
        let created = drive(&running.process, &mut clients, step - there, create).await?;
        there = step;
        running.process.quiet().await?;
        let written = running.process.memory("VmRSS")?;
        running.process.kill()?;
        let again = atoll::start(program, place).await?;
        again.process.quiet().await?;
        let started = again.process.memory("VmRSS")?;
        let mut one = connections(&again.target, 1).await?;
        let mut list = async |headers| {
            let request = |_| Request {
                headers,
                ..Request::get(COLLECTION)
            };
            drive(&again.process, &mut one, LISTS, request).await
        };
        let (plain, packed) = (list("").await?, list(GZIP).await?);
        text.push_str(&format!(
            "| {step:>7} | {:>9.0} | {:>7.1} | {written:>3.0} | {:>14.2} | {started:>3.0} | {:>7.1} | {:>6.1} | {:>7.1} |\n",
            created.rate(),
            created.percentile(99),
            millis(again.startup) / 1000.0,
            plain.percentile(50),
            plain.cpu_each(),
            packed.percentile(50),
        ));
    }
    Ok(text)
}
