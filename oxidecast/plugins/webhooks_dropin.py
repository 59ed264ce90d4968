from oxidecast.interfaces import IEventListener
from oxidecast.registry import Plugin
from oxidecast.webhooks.check import check
from oxidecast.webhooks.hooks import webhooks as start
from oxidecast.webhooks.settings import WebhooksSettings

webhooks = Plugin("webhooks", IEventListener, start, WebhooksSettings, check=check)
