"""BIDS in and out: finding units, sidecars by inheritance, names of results, the derivative dataset.

May import files, errors and its own modules; reads names and JSON, never an image's values. Problems of a unit
(`InputError`)::

    E201  EchoTime is missing                  E212  x.nii and x.nii.gz differ
    E202  EchoTime is no number                E213  a link without content
    E203  EchoTime is zero or negative         E214  a file of several echoes
    E204  EchoTime looks like milliseconds     E215  echoes of different acquisitions
    E205  an echo or run is there twice        E216  an implausible field strength
    E206  two echoes have one echo time        E217  a folder's label is not BIDS
    E207  one echo only                        E218  no MEGRE image
    E208  phase alone, or half of a pair       E219  an entity that would mix images
    E209  parts disagree on an echo time       E220  a file or folder can't be read
    E210  a sidecar is no JSON                 E221  part- against ImageType or Units
    E211  a file in another's folder           E222  an echo time is far too early
    E223  two sidecars of one rank disagree    E224  a sequence of spin echoes
    E225  echoes in display values of several scales

Its warnings::

    W202  MagneticFieldStrength is missing     W207  no T1w
                                               W208  EffectiveEchoTime for EchoTime
    W203  a gap in the numbering of echoes     W209  a part lacks echoes: not used
    W204  x.nii and x.nii.gz, equal            W210  a name that is not BIDS
    W205  several T1w                          W211  a sidecar is not UTF-8
    W206  the T1w of another session           W212  an echo later than its repetition
    W213  a frequency of another field         W214  a sidecar of an echo without image
    W215  two echo times of one echo           W216  a last echo far later than the others
    W217  an echo time for all echoes          W218  EchoNumber against the name
    W219  echoes of several series, coils or times

Of results of other programs::

    E470  the one asked for is not there       W471  taken to lie in this world
    E471  it lies in another space             W473  no lesion mask
    E472  several answer                       W474  no such map
    E530  an option names no derivative        E531  no derivative dataset

Of the whole run::

    E501  no such dataset                      E504  no such participant
    E502  no participant in it                 E505  no such session
    E503  no MEGRE image in it                 E506  the filter file
                                               E509  a label that can't stand in a name
"""

from r2star.bids.find import find_units
from r2star.bids.units import EchoFile, Unit

__all__ = ["EchoFile", "Unit", "find_units"]
