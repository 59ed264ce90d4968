from oxidecast.interfaces import IOutput
from oxidecast.outputs.multicast.check import check
from oxidecast.outputs.multicast.output import MulticastOutput
from oxidecast.outputs.multicast.settings import MulticastSettings
from oxidecast.registry import Plugin

multicast = Plugin("multicast", IOutput, MulticastOutput, MulticastSettings, check=check)
