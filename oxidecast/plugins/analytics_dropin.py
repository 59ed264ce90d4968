from oxidecast.analytics.plugin import Analytics
from oxidecast.analytics.settings import AnalyticsSettings
from oxidecast.interfaces import IEventListener
from oxidecast.registry import Plugin

analytics = Plugin("analytics", IEventListener, Analytics, AnalyticsSettings)
