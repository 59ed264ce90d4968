"""Where drop-ins live: the built-in ones beside this file, third parties' in their own distributions."""

from twisted.plugin import pluginPackagePaths

__path__.extend(pluginPackagePaths(__name__))
__all__: list[str] = []
