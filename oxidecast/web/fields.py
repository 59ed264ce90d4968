"""Types of fields that several bodies have.

No text may hold NUL: PostgreSQL has no place for it, and nobody types it.
"""

from datetime import datetime
from typing import Annotated

from msgspec import Meta

WITHOUT_NUL = r"^[^\x00]*$"

Time = Annotated[datetime, Meta(tz=True)]

Title = Annotated[str, Meta(min_length=1, max_length=200, pattern=WITHOUT_NUL)]
Description = Annotated[str, Meta(max_length=5000, pattern=WITHOUT_NUL)]
Category = Annotated[str, Meta(max_length=100, pattern=WITHOUT_NUL)]
StreamName = Annotated[str, Meta(min_length=1, max_length=64)]
Profiles = Annotated[list[str], Meta(max_length=20)]

Networks = Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(max_length=20)]
"""So many are looked at for each publisher: offices, studios and mobile carriers have fewer. The longest has 43
characters."""

KeyName = Annotated[str, Meta(max_length=100, pattern=WITHOUT_NUL)]

Username = Annotated[str, Meta(min_length=3, max_length=50)]
Password = Annotated[str, Meta(min_length=8, max_length=1024)]
Email = Annotated[str, Meta(max_length=254)]
