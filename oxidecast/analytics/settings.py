"""[analytics]: what is kept of viewers and streams, and for how long."""

from typing import Annotated, ClassVar, Literal

from msgspec import Meta

from oxidecast.settings.section import Count, Section

Addresses = Literal["full", "network", "none"]


class AnalyticsSettings(Section, frozen=True, kw_only=True):
    """[analytics]"""

    reloadable: ClassVar[frozenset[str]] = frozenset({"addresses", "retention_days", "audit_days"})

    addresses: Addresses = "network"
    interval: Annotated[float, Meta(ge=1)] = 60.0
    retention_days: Count = 90
    audit_days: Count = 365
