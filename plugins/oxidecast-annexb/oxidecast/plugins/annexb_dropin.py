from oxidecast_annexb import AnnexBOutput, AnnexBSettings

from oxidecast.interfaces import IOutput
from oxidecast.registry import Plugin

annexb = Plugin("annexb", IOutput, AnnexBOutput, AnnexBSettings)
