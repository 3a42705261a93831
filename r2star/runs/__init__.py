"""What a run leaves behind and how runs keep out of each other's way. May import images, files and errors."""
