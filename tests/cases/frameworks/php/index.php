hello from php<?php
