"""The doctor: examines every image and every object of a dataset."""

from sam3_lora.data.doctor.examination import examine
from sam3_lora.data.doctor.report import Report
from sam3_lora.data.doctor.statistics import Histogram, Statistics

__all__ = ["Histogram", "Report", "Statistics", "examine"]
