//! What can go wrong. Each fault is a value; when it is dropped the fault is over, also when the test panics.

mod cut;
mod disk;
mod filter;
mod freeze;
mod lag;

pub use cut::Cut;
pub use disk::{Disk, Full, Hang};
pub use filter::{Filter, Rule};
pub use freeze::Freeze;
pub use lag::Lag;

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Write};
    use std::time::Duration;

    use anyhow::{Result, ensure};
    use nix::sys::signal::Signal;
    use tokio::net::{TcpListener, TcpStream};
    use tokio::time::timeout;

    use super::*;
    use crate::lab::{self, Node};
    use crate::{ground::Ground, wait_until};

    const SHORT: Duration = Duration::from_millis(300);
    const LIMIT: Duration = Duration::from_secs(5);

    async fn reaches(node: &Node, port: u16) -> std::io::Result<()> {
        match timeout(SHORT, TcpStream::connect((node.address(), port))).await {
            Ok(result) => result.map(drop),
            Err(_) => Err(ErrorKind::TimedOut.into()),
        }
    }

    /// A host with a server that takes connections on port 5000 for as long as the lab lives.
    async fn host(network: &mut lab::Network) -> Result<Node> {
        let host = network.add("host-1")?;
        host.spawn("server", async |node| {
            let listener = TcpListener::bind((node.address(), 5000)).await?;
            loop {
                drop(listener.accept().await?);
            }
            #[expect(unreachable_code, reason = "gives the type of the task")]
            Ok(())
        })?;
        wait_until("a server", LIMIT, async || Ok(reaches(&host, 5000).await?)).await?;
        Ok(host)
    }

    #[test]
    fn a_fault_holds_while_its_value_lives() -> Result<()> {
        lab::run(async |network| {
            let host = host(network).await?;
            let kind = async || reaches(&host, 5000).await.map_err(|error| error.kind()).err();
            let cut = Cut::off(&host)?;
            ensure!(kind().await == Some(ErrorKind::TimedOut), "cut");
            drop(cut);
            wait_until("a plugged cable", LIMIT, async || Ok(reaches(&host, 5000).await?)).await?;
            let driver = network.driver().address();
            for (rules, wanted) in [
                (vec![Rule::In], Some(ErrorKind::TimedOut)),
                (vec![Rule::Out], Some(ErrorKind::TimedOut)),
                (vec![Rule::From(driver)], Some(ErrorKind::TimedOut)),
                (vec![Rule::To(driver)], Some(ErrorKind::TimedOut)),
                (vec![Rule::Ports(4000, 5000)], Some(ErrorKind::TimedOut)),
                (vec![Rule::Reset(5000, 5000)], Some(ErrorKind::ConnectionRefused)),
                (vec![Rule::Loss(1.0)], Some(ErrorKind::TimedOut)),
                (vec![Rule::Longer(1400), Rule::Ports(4000, 4999)], None),
            ] {
                let filter = Filter::at(&host, &rules)?;
                ensure!(kind().await == wanted, "{rules:?}");
                drop(filter);
                ensure!(kind().await.is_none(), "{rules:?} is over");
            }
            Ok(())
        })
    }

    #[test]
    fn a_long_cable_delays_and_loses_nothing() -> Result<()> {
        lab::run(async |network| {
            let host = host(network).await?;
            let connect = async || -> Result<Duration> {
                let begun = tokio::time::Instant::now();
                timeout(LIMIT, TcpStream::connect((host.address(), 5000))).await??;
                Ok(begun.elapsed())
            };
            let open = TcpStream::connect((host.address(), 5000)).await?;
            let lag = Lag::at(&host, Duration::from_millis(100))?;
            let took = connect().await?;
            ensure!(took >= Duration::from_millis(200), "there and back in {took:?}");
            drop(lag);
            let took = connect().await?;
            ensure!(took < Duration::from_millis(100), "still {took:?}");
            // The server ended it long ago; that arrived too.
            open.readable().await?;
            ensure!(open.try_read(&mut [0])? == 0, "an end");
            Ok(())
        })
    }

    #[test]
    fn a_frozen_host_stands_still_until_the_thaw_and_a_killed_one_is_empty() -> Result<()> {
        lab::run(async |network| {
            let host = network.add("host-1")?;
            let ground = Ground::make()?;
            let file = ground.path("ticks");
            let ticks = || std::fs::metadata(&file).map_or(0, |meta| meta.len());
            let script = "while :; do echo >>\"$0\"; sleep 0.005; done";
            let mut child = host.command("sh").args(["-c", script]).arg(&file).spawn()?;
            let goes_on = async || {
                let before = ticks();
                wait_until("a tick", LIMIT, async || {
                    ensure!(ticks() > before, "none");
                    Ok(())
                })
                .await
            };
            goes_on().await?;
            let frozen = Freeze::host(&host);
            let before = ticks();
            tokio::time::sleep(SHORT).await;
            ensure!(ticks() == before, "it stands still");
            drop(frozen);
            goes_on().await?;
            host.signal(Signal::SIGKILL);
            child.wait()?;
            wait_until("an empty host", LIMIT, async || {
                ensure!(host.pids().is_empty(), "{:?}", host.pids());
                Ok(())
            })
            .await
        })
    }

    #[tokio::test]
    async fn a_disk_fills_up_and_hangs_and_is_well_again() -> Result<()> {
        let ground = Ground::make()?;
        let mount = ground.path("disk");
        let disk = Disk::mount(&ground.path("image"), &mount, 16)?;
        let write = {
            let file = mount.join("file");
            move || -> std::io::Result<()> {
                let mut file = std::fs::File::create(&file)?;
                file.write_all(&[1; 65536])?;
                file.sync_all()
            }
        };
        write()?;
        std::fs::remove_file(mount.join("file"))?;
        let full = disk.fill()?;
        ensure!(write().is_err_and(|error| error.kind() == ErrorKind::StorageFull));
        drop(full);
        write()?;
        let hang = disk.hang()?;
        let waiting = tokio::task::spawn_blocking(write.clone());
        tokio::time::sleep(SHORT).await;
        ensure!(!waiting.is_finished(), "it waits");
        drop(hang);
        waiting.await??;
        drop(disk);
        ensure!(std::fs::read_dir(&mount)?.next().is_none(), "unmounted");
        Ok(())
    }
}
