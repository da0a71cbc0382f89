"""What a fork server does before it forks, beyond importing: the first use of a library that would cost each worker."""

from __future__ import annotations

from numba.core.registry import cpu_target

# numba registers its types and their code when a kernel is first loaded, 0.4 s; no thread of its own is started yet.
cpu_target.typing_context.refresh()
cpu_target.target_context.refresh()
