from oxidecast.ingest.testpattern.ingest import PatternIngest, PatternSettings
from oxidecast.interfaces import IIngest
from oxidecast.registry import Plugin

testpattern = Plugin("testpattern", IIngest, PatternIngest, PatternSettings)
