"""Counters of the server in the text format of Prometheus."""

from __future__ import annotations

from collections import Counter

# Upper bounds of the time classes, seconds.
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Requests by route and status, and the time that they took."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.reloads: Counter[str] = Counter({"done": 0, "failed": 0})
        self._classes = [0] * (len(_BOUNDS) + 1)
        self._seconds = 0.0

    def count(self, route: str, status: int, seconds: float) -> None:
        """Add one request."""
        self.requests[route, status] += 1
        self._seconds += seconds
        place = next((i for i, bound in enumerate(_BOUNDS) if seconds <= bound), len(_BOUNDS))
        self._classes[place] += 1

    def text(self, gauges: dict[str, float]) -> str:
        """Return everything, and *gauges*, one metric a block."""
        name = "recbole_disent"
        lines = [f"# TYPE {name}_requests_total counter"]
        for (route, status), number in sorted(self.requests.items()):
            lines.append(f'{name}_requests_total{{route="{route}",status="{status}"}} {number}')
        lines.append(f"# TYPE {name}_request_seconds histogram")
        total = 0
        for bound, number in zip((*_BOUNDS, "+Inf"), self._classes, strict=True):
            total += number
            lines.append(f'{name}_request_seconds_bucket{{le="{bound}"}} {total}')
        lines += [f"{name}_request_seconds_sum {self._seconds:.6f}", f"{name}_request_seconds_count {total}"]
        lines.append(f"# TYPE {name}_reloads_total counter")
        lines += [f'{name}_reloads_total{{result="{k}"}} {v}' for k, v in sorted(self.reloads.items())]
        for gauge, value in gauges.items():
            lines += [f"# TYPE {name}_{gauge} gauge", f"{name}_{gauge} {value:g}"]
        return "\n".join(lines) + "\n"
