"""What a plugin of each kind does: a plugin names its protocol as its base to get what has a default, all that is not abstract."""

from __future__ import annotations

from whet.protocols.judging import Check as Check
from whet.protocols.judging import Metric as Metric
from whet.protocols.judging import Redraws as Redraws
from whet.protocols.learning import ByRole as ByRole
from whet.protocols.learning import Objective as Objective
from whet.protocols.learning import Optimiser as Optimiser
from whet.protocols.learning import Plan as Plan
from whet.protocols.learning import Reward as Reward
from whet.protocols.learning import Schedule as Schedule
from whet.protocols.learning import Sized as Sized
from whet.protocols.learning import Technique as Technique
from whet.protocols.rows import Augmenter as Augmenter
from whet.protocols.rows import Cleaner as Cleaner
from whet.protocols.rows import Source as Source
from whet.protocols.rows import Unwanted as Unwanted
from whet.protocols.searching import Pruner as Pruner
from whet.protocols.searching import Sampler as Sampler
from whet.protocols.searching import Space as Space
from whet.protocols.searching import Tracker as Tracker
from whet.protocols.searching import Tracking as Tracking
from whet.protocols.using import Artefact as Artefact
from whet.protocols.using import Compressor as Compressor
from whet.protocols.using import Engine as Engine
from whet.protocols.using import Exporter as Exporter
from whet.protocols.using import Generation as Generation
from whet.protocols.using import Target as Target
