"""A SLURM of one node for the tests that need it: munge, slurmctld and slurmd from the distribution's packages.

No systemd, cgroups or database. It needs root, because slurmd starts jobs under their users' names; its ports, keys and
state are its own, so it disturbs no other SLURM on the machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cluster import said, wait_for

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "sinfo")

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/munge.socket
CredType=cred/munge
SlurmctldPort={port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=2
JobAcctGatherParams=OverMemoryKill
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
DefMemPerCPU=512
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=0
MaxArraySize=1001
KillWait=20
MinJobAge=600
ReturnToService=2
MpiDefault=none
SwitchType=switch/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={n_cpus} RealMemory={memory_mib} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def memory_mib() -> int:
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**2 * 0.9)


def start(folder: Path) -> None:
    host = socket.gethostname().split(".")[0]
    for name in ("state", "spool", "munge"):
        (folder / name).mkdir()
    key = folder / "munge" / "munge.key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    content = CONFIGURATION.format(
        host=host,
        folder=folder,
        port=free_port(),
        node_port=free_port(),
        n_cpus=os.cpu_count(),
        memory_mib=memory_mib(),
    )
    (folder / "slurm.conf").write_text(content)
    munge = {"key-file": "munge.key", "socket": "munge.socket", "pid-file": "munged.pid"}
    munge |= {"log-file": "munged.log", "seed-file": "munged.seed"}
    options = [f"--{name}={folder / 'munge' / file}" for name, file in munge.items()]
    # --force: its folder lies below a temporary one that others may write
    subprocess.run(["munged", "--force", *options], check=True, capture_output=True)
    for program in ("slurmctld", "slurmd"):
        subprocess.run([program], check=True, capture_output=True)


@pytest.fixture(scope="session")
def slurm() -> Iterator[Path]:
    """Folder of a running SLURM; the environment names its configuration."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: install slurm-wlm and munge")
    if os.geteuid() != 0:
        pytest.skip("a SLURM of one's own needs root")
    # sockets have short names: not below pytest's own folder
    folder = Path(subprocess.check_output(["mktemp", "-d", "--suffix=-slurm"], text=True).strip())
    folder.chmod(0o755)
    before = {name: os.environ.get(name) for name in ("SLURM_CONF", "LOGNAME")}
    os.environ |= {"SLURM_CONF": str(folder / "slurm.conf"), "LOGNAME": "root"}
    try:
        start(folder)
        wait_for(lambda: said("sinfo", "-h", "-o", "%t").strip() == "idle", 60, "SLURM's node")
        yield folder
    finally:
        said("scancel", "--user=root")
        said("scontrol", "shutdown")
        for name in ("slurmd.pid", "slurmctld.pid", "munge/munged.pid"):
            end_process(folder / name)
        for name, value in before.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}
        shutil.rmtree(folder, ignore_errors=True)


def end_process(pid_file: Path) -> None:
    """End the daemon that wrote a file with its number, which it removes when it ends."""
    for number in (15, 9):
        try:
            os.kill(int(pid_file.read_text()), number)
        except (OSError, ValueError):
            return
        for _ in range(20):
            if not pid_file.exists():
                return
            time.sleep(0.25)


@pytest.fixture(scope="session")
def wait_for_jobs() -> Callable[[float], None]:
    """Wait until the queue is empty."""
    return lambda seconds: wait_for(lambda: not said("squeue", "--noheader").strip(), seconds, "the queue")
