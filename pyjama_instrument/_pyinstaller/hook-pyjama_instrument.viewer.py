"""What a frozen program with the dashboard needs besides the code that PyInstaller finds: the files of the page."""

from PyInstaller.utils.hooks import collect_data_files

datas = collect_data_files("pyjama_instrument.viewer")
