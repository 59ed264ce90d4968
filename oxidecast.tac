"""`twistd -ny oxidecast.tac`: the server with the settings of $OXIDECAST_CONFIG and the data of $OXIDECAST_DATA_DIR."""

from twisted.application.service import Application

from oxidecast.tap import Options, makeService

options = Options()
options.parseOptions([])
application = Application("oxidecast")
makeService(options).setServiceParent(application)
