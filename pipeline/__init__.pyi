from pipeline.api import build as build
from pipeline.api import plan as plan
