"""Which mpirun starts ranks."""

import os
import shlex
import shutil
import sysconfig

from dist_vgg.base.errors import UserError

INSTALL = "pip install 'dist_vgg[mpich]', or load your cluster's MPI module"
MEND = f"{INSTALL}, or name it with --mpirun"


def find_mpirun(wanted: str | None, mend: str = MEND) -> list[str]:
    """The command that starts ranks: --mpirun, or the one of this Python, or that on the path.

    Raises UserError where there is none; `mend` says what then helps.
    """
    try:
        name, *options = shlex.split(wanted or "mpirun") or [""]
    except ValueError as error:
        raise UserError(f"--mpirun {wanted}: {error}") from error
    scripts = "" if wanted else sysconfig.get_path("scripts") + os.pathsep
    found = shutil.which(name, path=scripts + os.environ.get("PATH", os.defpath))
    if not found:
        raise UserError(f"no {name} found; {mend}")
    return [found, *options]
